"""PySlowFast's networks of several labels a video, such as those of Charades: task, clips, labels and scores."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import yaml

from checkpoints.recorded_network import pyslowfast_cfg, read_record
from checkpoints.test_converters import ALPHA, _convert, narrow
from farfield import build_model
from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.reverse_conversion import to_pyslowfast, to_pytorchvideo
from farfield.errors import FarfieldError
from farfield.task import class_probabilities
from reference.pyslowfast_charades import head_probabilities

OPEN = {"MODEL": {"HEAD_ACT": "sigmoid"}}


def charades_cfg(arch: str, *, frames: int, dataset: str = "charades", **more: Any) -> str:
    """What PySlowFast's configs/Charades/SLOWFAST_16x8_R50.yaml at 0e2c601 sets, of a shorter clip."""
    cfg = json.loads(pyslowfast_cfg(arch, frames=frames, TRAIN={"DATASET": dataset}, **ALPHA))
    cfg["MODEL"] |= {"HEAD_ACT": "sigmoid", "LOSS_FUNC": "bce_logit", "NUM_CLASSES": 7}
    cfg["DATA"] |= {"SAMPLING_RATE": 2, "MULTI_LABEL": True, "ENSEMBLE_METHOD": "max", "REVERSE_INPUT_CHANNEL": True}
    cfg["DATA"] |= {"TARGET_FPS": 30}  # the default, which the loader of Charades does not read
    for section, values in more.items():
        cfg.setdefault(section, {}).update(values)
    return json.dumps(cfg)


def slowfast(classes: int = 7, answers: ConversionOptions | None = None, **more: Any):
    state = narrow("pyslowfast_SLOWFAST_8x8_R50", classes)
    return _convert({"model_state": state, "cfg": charades_cfg("slowfast", frames=32, **more)}, answers)


def test_a_network_of_charades_has_its_task_and_clips() -> None:
    network, report = slowfast()
    clip = network.clip
    assert (network.task, network.config["head"]) == ("multilabel", "window_softmax_mean")
    assert (clip.num_frames, clip.frame_stride, clip.target_fps) == (32, 2, 24)
    assert (clip.short_clip, clip.views_aggregation, clip.num_clips, clip.num_crops) == ("clamp", "max", 10, 3)
    assert (clip.crop_px, clip.test_crop_px, clip.short_side_px) == (64, 256, 256)
    notes = " ".join(report.notes)
    assert "clips of 24 frames per second are assumed, as in the JPEG frames of Charades" in notes
    assert "BGR" not in notes
    assert "crops" not in notes


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("size", [(2, 2), (2, 4), (3, 5)])
def test_probabilities_are_those_of_pyslowfasts_head(activation: str, size: tuple[int, int]) -> None:
    """On features of a clip of the training size, and of larger ones, of which the head scores 3 or 2 x 4 windows."""
    network, _ = slowfast(MODEL={"HEAD_ACT": activation})
    head = network.head.double()
    maps = [torch.randn(256, 8, *size).double(), torch.randn(32, 32, *size).double()]
    with torch.no_grad():
        ours = class_probabilities(head([each[None] for each in maps]), network.task)[0]
        theirs = head_probabilities(maps, head.fc.weight, head.fc.bias, network.config["head_windows"], activation)
    assert network.config["head_windows"] == [[8, 2, 2], [32, 2, 2]]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_a_head_that_pools_the_whole_clip_has_one_sigmoid() -> None:
    """That of networks trained with the short cycle: configs/Charades/SLOWFAST_16x8_R50_multigrid.yaml."""
    network, _ = slowfast(MULTIGRID={"SHORT_CYCLE": True, "LONG_CYCLE": True})
    assert (network.task, network.config["head"], network.clip.views_aggregation) == ("multilabel", "gap_fc", "max")
    maps = [torch.randn(2, 256, 8, 2, 3), torch.randn(2, 32, 32, 2, 3)]
    with torch.no_grad():
        pooled = torch.cat([each.mean((2, 3, 4)) for each in maps], 1)
        ours = class_probabilities(network.head(maps), network.task)
        torch.testing.assert_close(ours, network.head.fc(pooled).sigmoid())


def test_pytorchvideos_loader_and_fewer_crops_are_noted() -> None:
    _, report = slowfast(dataset="Ptvcharades", TEST={"NUM_SPATIAL_CROPS": 1})
    assert any("PyTorchVideo's loader of Charades takes other test clips" in note for note in report.notes)
    assert any("PySlowFast's Charades loader takes the left or upper crop first" in note for note in report.notes)


@pytest.mark.slow
def test_the_classes_of_charades_have_its_codes() -> None:
    network, report = slowfast(157)
    assert network.labels == [f"c{number:03}" for number in range(157)]
    assert any("its codes, from c000 to c156; --labels FILE changes them" in note for note in report.notes)
    assert slowfast(7)[0].labels == [str(number) for number in range(7)]


def test_the_task_is_that_of_the_activation_whatever_the_data_set() -> None:
    state = narrow("pyslowfast_C2D_8x8_R50")
    several, _ = _convert({"model_state": state, "cfg": pyslowfast_cfg("c2d", frames=8, **OPEN)})
    assert (several.task, several.clip.views_aggregation, several.clip.short_clip) == ("multilabel", "mean", "clamp")
    one, _ = _convert({"model_state": state, "cfg": charades_cfg("c2d", frames=8, MODEL={"HEAD_ACT": "softmax"})})
    assert (one.task, one.clip.views_aggregation) == ("single_label", "max")


def test_the_user_gives_the_task_that_a_file_does_not_state() -> None:
    state = {"model_state": narrow("pyslowfast_C2D_8x8_R50")}
    network, _ = _convert(state, ConversionOptions(task="multilabel", backbone="c2d_r50"))
    assert network.task == "multilabel"
    with pytest.raises(
        FarfieldError, match="with the option task: single_label, since the file states task: multilabel"
    ):
        slowfast(answers=ConversionOptions(task="single_label"))


@pytest.mark.slow
def test_pyslowfasts_wrapper_of_pytorchvideo_may_end_in_sigmoids() -> None:
    state = {f"model.{key}": value for key, value in read_record("pytorchvideo_slow_r50").state().items()}
    network, _ = _convert({"model_state": state, "cfg": charades_cfg("slow", frames=8, dataset="ptvcharades")})
    assert (network.task, network.config["head"]) == ("multilabel", "window_softmax_mean")
    assert (network.clip.target_fps, network.clip.short_clip, network.clip.views_aggregation) == (24, "clamp", "max")


@pytest.mark.slow
def test_a_network_of_charades_goes_back_to_pyslowfast() -> None:
    network, _ = slowfast()
    back = to_pyslowfast(network)
    cfg = yaml.safe_load(back["cfg"])
    assert (cfg["MODEL"]["HEAD_ACT"], cfg["MODEL"]["LOSS_FUNC"]) == ("sigmoid", "bce_logit")
    assert cfg["TRAIN"]["DATASET"] == cfg["TEST"]["DATASET"] == "charades"
    data = ("MULTI_LABEL", "ENSEMBLE_METHOD", "REVERSE_INPUT_CHANNEL")
    assert [cfg["DATA"][name] for name in data] == [True, "max", True]
    again, report = _convert(back)
    assert again.clip == network.clip
    assert {**again.config, "clip": None} == {**network.config, "clip": None}
    assert not any("BGR" in note for note in report.notes)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())


def test_another_multilabel_network_goes_back_to_pyslowfast() -> None:
    with torch.device("meta"):
        network = build_model("c2d_r50", num_classes=4, task="multilabel", clip={"test_crop_px": 224})
    cfg = yaml.safe_load(to_pyslowfast(network)["cfg"])
    assert (cfg["MODEL"]["HEAD_ACT"], cfg["DATA"]["ENSEMBLE_METHOD"], "TRAIN" in cfg) == ("sigmoid", "sum", False)


def test_pytorchvideos_networks_that_end_in_a_softmax_have_one_label() -> None:
    with torch.device("meta"):
        network = build_model("x3d_s", num_classes=4, task="multilabel")
        slow = build_model("slow_r50", num_classes=4, task="multilabel", head="window_mean", head_windows=[[8, 7, 7]])
    with pytest.raises(FarfieldError, match="x3d_s ends in a softmax, but the network's task is 'multilabel'"):
        to_pytorchvideo(network)
    assert "blocks.5.proj.weight" in to_pytorchvideo(slow)["model_state"]


@pytest.mark.parametrize("to", [to_pyslowfast, to_pytorchvideo])
def test_networks_of_several_heads_stay(to: Any) -> None:
    labels = ["verb:open", "verb:shut", "noun:door", "noun:box"]
    with torch.device("meta"):
        network = build_model("c2d_r50", labels=labels, task="multi_head")
    with pytest.raises(FarfieldError, match=r"task is 'multi_head', but .*'s networks have one head"):
        to(network)
