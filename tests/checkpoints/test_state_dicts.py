"""Checkpoints as training code writes them: containers, wrappers, averages, losses with weights of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from checkpoints.recorded_network import pyslowfast_cfg, read_record
from checkpoints.test_converters import CHECKPOINTS, narrow
from farfield import build_model
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.convert_file import convert_file
from farfield.checkpoints.state_dicts import _is_training_only, find_network, origin_of, without_wrappers
from farfield.errors import FarfieldError

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> State:
    return narrow("pyslowfast_C2D_8x8_R50")


CFG = {"cfg": pyslowfast_cfg("c2d", frames=8)}
STEM = "backbone.trunk.blocks.0.conv.weight"


def inside(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def doubled(state: State) -> State:
    """As an average of the weights: of the same names and shapes, and other values."""
    return {name: value * 2 if value.is_floating_point() else value for name, value in state.items()}


def convert(content: Any, path: Path, **answers: Any):
    torch.save(content, path)
    return convert_file(path, options=ConversionOptions(**answers))


def adam(shapes: State) -> dict[str, Any]:
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(3))])
    optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
    optimizer.step()
    return optimizer.state_dict()


TRAINED: dict[str, tuple[Callable[[State], dict[str, Any]], tuple[str, ...]]] = {
    "compiled": (lambda s: {"model_state_dict": inside("_orig_mod.", s)}, ('"_orig_mod." (torch.compile)',)),
    "DDP of a compiled": (lambda s: {"model": inside("module._orig_mod.", s)}, ('"module." (DataParallel',)),
    "compiled in a LightningModule": (lambda s: {"state_dict": inside("model._orig_mod.", s)}, ('"model."',)),
    "nested": (lambda s: {"state_dict": inside("module.net.model.", s)}, ('"net.model."', '"module." (')),
    "FSDP inside": (
        lambda s: {"net": {k.replace("s2.", "s2._fsdp_wrapped_module.", 1): v for k, v in s.items()}},
        ('"_fsdp_wrapped_module." (FSDP)',),
    ),
    "bare, with the optimiser": (
        lambda s: {"network": s, "optimizer_state_dict": adam(s), "epoch": 3, "best": 0.5},
        (),
    ),
    "deeper": (lambda s: {"checkpoint": {"model": inside("net.", s)}, "args": None}, ('"net."',)),
}


@pytest.mark.parametrize("name", TRAINED)
def test_wrappers_around_a_known_network_are_removed_and_reported(name: str, weights: State, tmp_path: Path) -> None:
    make, named = TRAINED[name]
    network, report = convert({**make(weights), **CFG}, tmp_path / "a.pth")
    assert len(report.mapped) == len(weights)
    stems = {theirs: ours for theirs, ours in report.mapped.items() if theirs.endswith("s1.pathway0_stem.conv.weight")}
    assert list(stems.values()) == [STEM]
    state = network.state_dict()
    for theirs, ours in report.mapped.items():
        plain = ".".join(p for p in theirs.split(".") if p not in ("_orig_mod", "module", "_fsdp_wrapped_module"))
        assert torch.equal(state[ours], weights[plain.removeprefix("net.").removeprefix("model.")])
    notes = "\n".join(report.notes)
    assert all(part in notes for part in named), notes
    assert ("removed" in notes) == bool(named)


def test_training_state_beside_the_network_is_ignored_and_reported(weights: State, tmp_path: Path) -> None:
    beside = {
        "criterion.weight": torch.ones(7),
        "loss_fn.pos_weight": torch.ones(7),
        "val_metrics.top1.tp": torch.zeros(1),
        "model.s1.pathway0_stem.total_ops": torch.zeros(1),
    }
    for state in ({**inside("model.", weights), **beside}, {**beside, **weights}):
        _, report = convert({"state_dict": state, **CFG}, tmp_path / "a.pth")
        assert len(report.mapped) == len(weights)
        assert dict(report.ignored) == dict.fromkeys(beside, "used in training only")


def test_known_networks_use_no_wrapper_or_training_names() -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        theirs = [list(get_model(n).state_dict()) for n in ("r3d_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t")]
    for names in (*theirs, *(list(read_record(name).shapes) for name in CHECKPOINTS)):
        assert origin_of(names) is not None
        assert not [name for name in names if _is_training_only(name)]
        assert without_wrappers(names, "a.pth") == {name: name for name in names}


@pytest.mark.parametrize(
    ("make", "trained", "averaged"),
    [
        (lambda s, a: {"state_dict": s, "ema_state_dict": {**inside("module.", a)}}, "state_dict", "ema_state_dict"),
        (lambda s, a: {"state_dict_ema": a, "state_dict": s}, "state_dict", "state_dict_ema"),
        (lambda s, a: {"model_ema": inside("module.", a), "model": s}, "model", "model_ema"),
        (
            lambda s, a: {"state_dict": {**inside("ema_model.module.", a), **inside("model.", s)}},
            "state_dict.model",
            "state_dict.ema_model",
        ),
    ],
)
def test_trained_weights_are_preferred_and_averaged_ones_can_be_taken(
    make: Callable[[State, State], dict[str, Any]], trained: str, averaged: str, weights: State, tmp_path: Path
) -> None:
    content = {**make(weights, doubled(weights)), **CFG}
    stem = weights["s1.pathway0_stem.conv.weight"]
    network, report = convert(content, tmp_path / "a.pth")
    assert torch.equal(network.state_dict()[STEM], stem)
    assert (
        f"the network {trained} was converted; --take {averaged} converts another network in the file" in report.notes
    )
    network, report = convert(content, tmp_path / "a.pth", take=averaged)
    assert torch.equal(network.state_dict()[STEM], 2 * stem)
    assert (
        f"the network {averaged} was converted; --take {trained} converts another network in the file" in report.notes
    )


def test_averaged_weights_alone_are_taken(weights: State, tmp_path: Path) -> None:
    state = {**inside("module.", weights), "n_averaged": torch.tensor(7)}
    network, report = convert({"ema": state, **CFG}, tmp_path / "a.pth")
    assert torch.equal(network.state_dict()[STEM], weights["s1.pathway0_stem.conv.weight"])
    assert report.ignored == [("n_averaged", "used in training only")]


@pytest.mark.slow
def test_ambiguous_networks_need_take(weights: State, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    larger = {"state_dict": {**inside("backbone.", weights), "classifier.weight": torch.ones(3, 7)}, **CFG}
    with pytest.raises(
        FarfieldError, match=r"and further weights: classifier\.weight\. The scores may .* --take backbone\."
    ):
        convert(larger, path)
    _, report = convert(larger, path, take="backbone")
    assert report.ignored == [("classifier.weight", "not part of the network backbone")]
    two = {"state_dict": {**inside("rgb.", weights), **inside("flow.", weights)}, **CFG}
    with pytest.raises(
        FarfieldError, match=r"several networks: state_dict\.flow, state_dict\.rgb\. Choose one: .*--take"
    ):
        convert(two, path)
    assert len(convert(two, path, take="rgb")[1].mapped) == len(weights)
    with pytest.raises(FarfieldError, match=r"no network 'rbg'\. Known: state_dict\.flow, state_dict\.rgb"):
        convert(two, path, take="rbg")
    twice = {"state_dict": {**weights, **inside("module.", weights)}, **CFG}
    with pytest.raises(
        FarfieldError, match=r"has two weights that are both named s1\S* without the parts that wrappers insert: s1"
    ):
        convert(twice, path)


PYTHON = re.compile(
    r"\b(max|min)\(\)|NoneType|\b\w*(Error|Exception)\b|subscriptable|attribute|keyword argument|iterable|hashable|"
    r"object is not|literal|unpack|strided|storage|Traceback|positional"
)
"""What Python and torch say to programmers."""


def _malformed(weights: State) -> dict[str, Any]:
    stem = "s1.pathway0_stem.conv.weight"
    few = {key: value for key, value in weights.items() if not key.startswith("s4")}
    one = {key: value for key, value in weights.items() if key == stem}
    config = pyslowfast_cfg
    return {
        "nothing": {},
        "no weights": {"epoch": 3, "optimizer": {}},
        "none for weights": {"state_dict": None, "model": None},
        "numbers for names": {"state_dict": {1: torch.ones(2), 2: torch.ones(3)}},
        "a pickled network": {"model": nn.Linear(2, 3)},
        "a pickled network alone": nn.Linear(2, 3),
        "a list": [torch.ones(2)],
        "another's": {"state_dict": {"encoder.weight": torch.ones(2)}},
        "a stem": {"model_state": one, **CFG},
        "a stage less": {"model_state": few, **CFG},
        "scalars": {"model_state": {key: torch.zeros(()) for key in weights}, **CFG},
        "flat": {"model_state": {key: value.flatten() for key, value in weights.items()}, **CFG},
        "no classifier": {"model_state": {k: v for k, v in weights.items() if "head." not in k}, **CFG},
        "yaml that is none": {"model_state": weights, "cfg": "a: [1, 2\nb: {"},
        "lists in the config": {"model_state": weights, "cfg": config("c2d", frames=8, RESNET={"NUM_GROUPS": {}})},
        "dilations": {"model_state": weights, "cfg": config("c2d", frames=8, RESNET={"SPATIAL_DILATIONS": {"a": 1}})},
        "text for tensors": {"state_dict": dict.fromkeys(weights, "x")},
        "blocks of nobody": {"state_dict": {"model.blocks.0.conv.weight": torch.ones(2), "x.y": torch.ones(1)}},
        "blocks and a loss": {"state_dict": {"model.blocks.0.conv.w": torch.ones(2), "loss.weight": torch.ones(1)}},
        "half of SlowFast": {"state_dict": {"blocks.0.multipathway_blocks.0.conv.weight": torch.ones(2)}},
        "half of MMAction2": {"state_dict": {"backbone.conv1.conv.weight": torch.ones(2)}},
        "meta of numbers": {"backbone.conv1.conv.weight": torch.ones(2), "meta": {"cfg": "model = dict(backbone=3)"}},
        "half of torchvision": {"stem.0.weight": torch.ones(2), "head.weight": torch.ones(())},
        "ours without description": {"state_dict": {"net.backbone.trunk.blocks.0.conv.weight": torch.ones(2)}},
    }  # fmt: skip


@pytest.mark.slow
def test_converter_errors_never_show_python_errors(weights: State, tmp_path: Path) -> None:
    said = {}
    for name, content in _malformed(weights).items():
        with pytest.raises(FarfieldError) as caught:
            convert(content, tmp_path / "a.pth")
        said[name] = str(caught.value).replace(str(tmp_path), "")
    assert not {name: text for name, text in said.items() if PYTHON.search(text)}
    assert "and further weights: x.y" in said["blocks of nobody"]
    assert "in the code that defines" in said["a pickled network"]
    assert "in the code that defines" in said["a pickled network alone"]
    assert "looks like a network of PyTorchVideo, but its weights fit none" in said["blocks and a loss"]
    assert "weights of a farfield network without the network options" in said["ours without description"]


@pytest.mark.slow
def test_checkpoint_errors_never_show_python_errors(tmp_path: Path) -> None:
    save_model(build_model("tiny", num_classes=2), tmp_path / "a.ckpt")
    whole = torch.load(tmp_path / "a.ckpt", weights_only=True)
    model, state = whole["farfield"]["model"], whole["state_dict"]
    damaged: list[tuple[Any, Any, str]] = [
        (None, state, "they are missing"),
        ([1], state, "they are not a dict"),
        ({**model, "depth": 3}, state, r"'depth' is unknown \(known: backbone, backbone_options"),
        ({"labels": ["a", "b"]}, state, "backbone is missing"),
        ({**model, "insert": 5}, state, "cannot be read by this version of farfield: insert is 5; give a preset"),
        ({**model, "backbone_options": {"width": "x"}}, state, "tiny"),
        (model, {}, r"missing: \d+ \(backbone\."),
        (model, {**state, "network.more": torch.ones(1)}, r"unexpected: 1 \(more\)"),
        (model, {**state, "network.head.fc.bias": 3}, r"not tensors: 1 \(head\.fc\.bias\)"),
        (
            model,
            {**state, "network.head.fc.bias": torch.ones(3)},
            r"of the wrong shape: 1 \(head\.fc\.bias\), \(3,\) instead of \(2,\)",
        ),
    ]
    for about, weights, message in damaged:
        torch.save({"farfield": {"format": 1, "model": about}, "state_dict": weights}, tmp_path / "b.ckpt")
        with pytest.raises(FarfieldError, match=message) as caught:
            load_network(tmp_path / "b.ckpt")
        assert not PYTHON.search(str(caught.value).replace(str(tmp_path), "")), caught.value


@pytest.mark.slow
def test_compiled_or_wrapped_farfield_checkpoints_load(tmp_path: Path) -> None:
    network = build_model("tiny", num_classes=2).eval()
    save_model(torch.compile(network), tmp_path / "compiled.ckpt")  # type: ignore[arg-type]  # nothing is run
    assert "network._orig_mod." in next(iter(torch.load(tmp_path / "compiled.ckpt", weights_only=True)["state_dict"]))
    x = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_network(tmp_path / "compiled.ckpt")(x), network(x))
        assert torch.equal(build_model("tiny", weights=tmp_path / "compiled.ckpt").eval()(x), network(x))


@pytest.mark.slow
def test_wrapped_image_network_can_be_used_as_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from torchvision.models import resnet50

    theirs = resnet50()
    state = {**inside("backbone._orig_mod.", theirs.state_dict()), "head.fc.weight": torch.ones(2)}
    torch.save({"state_dict": state, "optimizer": {"lr": 0.1}}, tmp_path / "r50.pth")
    with caplog.at_level("INFO", "farfield"):
        network = build_model("c2d_r50", num_classes=3, weights=tmp_path / "r50.pth")
    assert torch.equal(next(network.backbone.parameters()), theirs.conv1.weight.unsqueeze(2))
    assert 'removed from the names of the weights: "backbone.", "_orig_mod." (torch.compile)' in caplog.text
    assert "weights that are not used (1): head.fc.weight" in caplog.text
    with pytest.raises(FarfieldError, match="is an image network"):
        convert_file(tmp_path / "r50.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "it is an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(99), "it is compressed with gzip. Unpack it."),
        (bytes(4) + b"ftypisom" + bytes(99), "it is a video."),
        ((60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1]}}' + bytes(90), "safetens"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n(K\x01K\x02tR.", "it has a malformed numpy number."),
        (b"\x80\x02K", "it is damaged, truncated, or not a checkpoint."),
    ],
)  # fmt: skip
def test_error_names_the_kind_of_other_files(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(FarfieldError, match=re.escape(reason)) as caught:
        convert_file(tmp_path / "a.pth")
    assert not PYTHON.search(str(caught.value))


@pytest.mark.slow
def test_report_names_removed_prefixes(
    weights: State, tmp_path: Path, run_farfield: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    state = {**inside("net._orig_mod.", weights), "criterion.weight": torch.ones(7)}
    torch.save({"state_dict": state, "ema_state_dict": doubled(weights), **CFG}, tmp_path / "a.pth")
    assert run_farfield("convert", tmp_path / "a.pth", tmp_path / "ours.ckpt") == 0
    printed = capsys.readouterr().out
    assert "  ignored   criterion.weight: used in training only" in printed
    assert '  note      removed from the names of the weights: "net.", "_orig_mod." (torch.compile)' in printed
    assert "--take ema_state_dict" in printed
    out = tmp_path / "ema.ckpt"
    assert run_farfield("convert", tmp_path / "a.pth", out, "--take", "ema_state_dict", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ignored"] == {}
    stem = weights["s1.pathway0_stem.conv.weight"]
    assert torch.equal(load_network(out).state_dict()[STEM], 2 * stem)


def test_search_for_state_dicts_stops_at_a_depth() -> None:
    content: dict[str, Any] = {"stem.0.weight": torch.ones(2)}
    content["self"] = content
    assert find_network(content, "a.pth").container == ""
