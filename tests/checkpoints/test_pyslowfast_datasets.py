"""What PySlowFast's data set implies for a converted network: the choice of frames, and the order of the channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from checkpoints.recorded_network import pyslowfast_cfg, read_record
from checkpoints.test_converters import ALPHA, _convert, narrow
from farfield import build_model
from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.reverse_conversion import to_pyslowfast
from farfield.errors import FarfieldError


def cfg_of(dataset: str | None, *, reverse: bool = False, **test: int) -> str:
    train = {} if dataset is None else {"TRAIN": {"DATASET": dataset}}
    data = {"REVERSE_INPUT_CHANNEL": reverse, "SAMPLING_RATE": 2}
    return pyslowfast_cfg("c2d", frames=8, **train, DATA=data, TEST=test)


def converted(cfg: str, answers: ConversionOptions | None = None):
    return _convert({"model_state": narrow("pyslowfast_C2D_8x8_R50"), "cfg": cfg}, answers)


@pytest.mark.parametrize("name", ["ssv2", "Ssv2", "SSv2", "ptvssv2"])
def test_networks_of_something_something_sample_segments(name: str) -> None:
    network, report = converted(cfg_of(name, NUM_ENSEMBLE_VIEWS=1, NUM_SPATIAL_CROPS=1))
    clip = network.clip
    assert (clip.sampling, clip.segment_offsets, clip.target_fps) == ("segments", "pyslowfast", 30)
    assert (clip.num_frames, clip.num_clips, clip.num_crops, clip.test_crop_px) == (8, 1, 1, 256)
    assert any("clips of 30 frames per second are assumed" in note for note in report.notes)
    own, _ = converted(cfg_of(name), ConversionOptions(clip={"target_fps": None}))
    assert (own.clip.target_fps, own.clip.num_clips) == (None, 1)  # PySlowFast's ten clips are equal


@pytest.mark.parametrize("name", [None, "kinetics", "KINETICS", "Ptvkinetics"])
def test_networks_of_kinetics_sample_clips(name: str | None) -> None:
    network, report = converted(cfg_of(name))
    assert (network.clip.sampling, network.clip.frame_stride, network.clip.num_clips) == ("clip", 2, 10)
    assert not any("data set" in note or "BGR" in note for note in report.notes)


def test_the_loader_of_another_data_set_is_assumed() -> None:
    network, report = converted(cfg_of("Myvideos", reverse=True))
    assert network.clip.sampling == "clip"
    assert any("no data set 'Myvideos' (TRAIN.DATASET), so the clips and colour channels" in n for n in report.notes)
    assert any("took BGR frames" in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AVA", "sets TRAIN.DATASET to AVA; such a network detects the actions of persons in boxes"),
        (
            "imagenet",
            "such a network classifies single images(.|\n)*can be converted: kinetics, (.|\n)*, charades",
        ),
    ],
)
def test_networks_of_other_tasks_are_refused(name: str, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        converted(cfg_of(name))


@pytest.mark.parametrize(
    ("dataset", "reverse", "bgr"),
    [
        ("kinetics", False, False),
        ("kinetics", True, True),
        ("ssv2", True, False),
        ("ssv2", False, True),
        ("charades", True, False),
        ("ptvcharades", False, True),
    ],
)
def test_first_convolutions_take_rgb_whatever_the_loader_reads(dataset: str, reverse: bool, bgr: bool) -> None:
    """Kinetics' loader gives RGB, Ssv2's and Charades' BGR; REVERSE_INPUT_CHANNEL reverses any."""
    ours = converted(cfg_of(dataset, reverse=reverse))[0].state_dict()
    name = next(key for key, value in ours.items() if value.shape[1:2] == (3,))
    theirs = narrow("pyslowfast_C2D_8x8_R50")["s1.pathway0_stem.conv.weight"]
    assert torch.equal(ours[name], theirs.flip(1) if bgr else theirs)
    assert not torch.equal(theirs, theirs.flip(1))


def test_both_pathways_take_rgb() -> None:
    cfg = pyslowfast_cfg("slowfast", frames=32, **ALPHA, TRAIN={"DATASET": "ssv2"})
    state = narrow("pyslowfast_SLOWFAST_8x8_R50")
    ours = _convert({"model_state": state, "cfg": cfg})[0].state_dict()
    stems = [value for value in ours.values() if value.shape[1:2] == (3,)]
    theirs = [state[f"s1.pathway{i}_stem.conv.weight"].flip(1) for i in (0, 1)]
    assert [torch.equal(a, b) for a, b in zip(stems, theirs, strict=True)] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize(("reverse", "bgr"), [(True, False), (False, True)])
def test_wrapped_pytorchvideo_networks_follow_the_data_set_too(reverse: bool, bgr: bool) -> None:
    theirs = read_record("pytorchvideo_slow_r50").state()
    state = {f"model.{key}": value for key, value in theirs.items()}
    cfg = pyslowfast_cfg("slow", frames=8, TRAIN={"DATASET": "ptvssv2"}, DATA={"REVERSE_INPUT_CHANNEL": reverse})
    network, report = _convert({"model_state": state, "cfg": cfg})
    assert network.clip.segment_offsets == "pyslowfast"
    stem = network.state_dict()["backbone.trunk.blocks.0.conv.weight"]
    assert torch.equal(stem, theirs["blocks.0.conv.weight"].flip(1) if bgr else theirs["blocks.0.conv.weight"])
    assert any("took BGR" in note for note in report.notes) == bgr
    with pytest.raises(FarfieldError, match="DATASET to ava"):
        _convert({"model_state": state, "cfg": pyslowfast_cfg("slow", frames=8, TRAIN={"DATASET": "ava"})})


def test_a_network_of_segments_goes_back_to_pyslowfast() -> None:
    network, _ = converted(cfg_of("ssv2", NUM_ENSEMBLE_VIEWS=1))
    again, report = _convert(to_pyslowfast(network))
    assert again.clip == network.clip
    assert not any("BGR" in note for note in report.notes)
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), network.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    "clip", [{}, {"segment_offsets": "videomae", "num_clips": 2}, {"segment_offsets": "pyslowfast", "num_clips": 1}]
)
def test_segments_that_pyslowfast_takes_otherwise_are_refused(clip: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = build_model("c2d_r50", num_classes=4, clip={"sampling": "segments", **clip})
    with pytest.raises(
        FarfieldError, match=r"samples segments with segment_offsets .*target_fps None, but PySlowFast samples"
    ):
        to_pyslowfast(network)
