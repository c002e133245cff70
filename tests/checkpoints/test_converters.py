"""Checkpoints of other projects against what those projects' own code gave."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from checkpoints.recorded_network import fill, pyslowfast_cfg, read_record
from farfield import build_model
from farfield.checkpoints.checkpoint import load_network, save_model
from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.convert_file import convert_file
from farfield.checkpoints.converters.pytorchvideo_and_torchvision import TORCHVISION, describe_torchvision
from farfield.errors import FarfieldError
from farfield.kinetics_labels import kinetics400_labels
from farfield.models.network import assemble
from farfield.models.network_options import NetworkOptions
from farfield.task import class_probabilities

SOFTMAX = {"NONLOCAL": {"INSTANTIATION": "softmax", "GROUP": [[1], [1], [1], [1]], "POOL": [[[1, 2, 2]]] * 4}}
ALPHA = {"SLOWFAST": {"ALPHA": 4}}
I3D_OF_MMACTION2 = "conv1_stride_t=2, pool1_stride_t=2, type='ResNet3d', depth=50"
NON_LOCAL = "non_local_cfg=dict(sub_sample=True, use_scale=False, mode='embedded_gaussian')"


def mmaction2_config(backbone: str, rest: str = "") -> dict[str, Any]:
    return {"cfg": f"model = dict(type='Recognizer3D', backbone=dict({backbone}))\n{rest}"}


CHECKPOINTS: dict[str, tuple[dict[str, Any], ConversionOptions]] = {
    "pyslowfast_C2D_8x8_R50": ({"cfg": pyslowfast_cfg("c2d", frames=8, **SOFTMAX)}, ConversionOptions()),
    "pyslowfast_I3D_NLN_8x8_R50": ({"cfg": pyslowfast_cfg("i3d", frames=8, **SOFTMAX)}, ConversionOptions()),
    "pyslowfast_SLOW_8x8_R50": ({"cfg": pyslowfast_cfg("slow", frames=8)}, ConversionOptions()),
    "pyslowfast_SLOWFAST_8x8_R50": ({"cfg": pyslowfast_cfg("slowfast", frames=32, **ALPHA)}, ConversionOptions()),
    "mmaction2_I3D_R50_none": ({"meta": mmaction2_config(I3D_OF_MMACTION2)}, ConversionOptions()),
    "mmaction2_I3D_R50_embedded_gaussian": (
        {"meta": mmaction2_config(f"{I3D_OF_MMACTION2}, {NON_LOCAL}")},
        ConversionOptions(),
    ),
    "pytorchvideo_i3d_r50": ({}, ConversionOptions(clip={"crop_px": 64})),
    "pytorchvideo_slow_r50": ({}, ConversionOptions(clip={"crop_px": 64})),
    "pytorchvideo_slowfast_r50": ({}, ConversionOptions(clip={"crop_px": 64})),
    "pytorchvideo_csn_r101": ({}, ConversionOptions(clip={"crop_px": 64})),
    "pytorchvideo_x3d_s": ({}, ConversionOptions(backbone="x3d_s", clip={"crop_px": 64})),
}

SAVED = (
    "pyslowfast_I3D_NLN_8x8_R50",
    "pyslowfast_SLOWFAST_8x8_R50",
    "mmaction2_I3D_R50_embedded_gaussian",
    "pytorchvideo_x3d_s",
)
"""Those whose outputs depend on options that show in no module: of blocks, of pathways, of windows."""


def as_recorded(network: nn.Module, x: Tensor) -> Tensor:
    """Probabilities where the peer's network ends in them, logits elsewhere."""
    with torch.no_grad():
        scores = network.double()(x.double())
    return scores.softmax(-1) if network.head.kind == "window_softmax_mean" else scores


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_converted_checkpoint_reproduces_recorded_outputs(name: str, tmp_path: Path) -> None:
    record = read_record(name)
    about, answers = CHECKPOINTS[name]
    key = "state_dict" if name.startswith("mmaction2") else "model_state"
    torch.save({key: record.state(), **about}, tmp_path / "theirs.pth")
    network, report = convert_file(tmp_path / "theirs.pth", options=answers)
    assert sum(p.numel() for p in network.parameters()) == record.about["parameters"]
    assert len(report.mapped) == len(record.shapes)
    assert not report.ignored
    with torch.device("meta"):
        assert repr(assemble(NetworkOptions(**network.config))) == repr(network)
    if name in SAVED:
        save_model(network, tmp_path / "ours.ckpt")
        network = load_network(tmp_path / "ours.ckpt")
    assert record.error(as_recorded(network, record.input())) < record.tolerance()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pyslowfast_C2D_8x8_R50", "pyslowfast_SLOWFAST_8x8_R50"])
def test_a_sigmoid_head_reproduces_recorded_outputs(name: str, tmp_path: Path) -> None:
    """The clip has two windows, so that their sigmoids are averaged, not their scores."""
    record = read_record(name)
    cfg = json.loads(CHECKPOINTS[name][0]["cfg"])
    cfg["MODEL"]["HEAD_ACT"] = "sigmoid"
    network, _ = _convert({"model_state": record.state(), "cfg": json.dumps(cfg)})
    save_model(network, tmp_path / "ours.ckpt")
    network = load_network(tmp_path / "ours.ckpt").double()
    with torch.no_grad():
        maps = network.backbone(record.input().double())
        scores = network.head(maps)
        of_mean = network.head.fc(network.head.embed(maps).mean(1)).sigmoid()
    assert record.error(class_probabilities(scores, network.task), "sigmoid") < record.tolerance()
    assert record.error(of_mean, "sigmoid") > 1e-7  # the windows differ little


@pytest.mark.slow
def test_recorded_outputs_detect_a_wrong_weight() -> None:
    """The comparison above is over 64 numbers and a norm: swapping two norms of one block moves them."""
    record = read_record("pyslowfast_C2D_8x8_R50")
    state = record.state()
    a, b = "s4.pathway0_res1.branch2.a_bn.bias", "s4.pathway0_res1.branch2.b_bn.bias"
    state[a], state[b] = state[b], state[a]
    network, _ = _convert({"model_state": state, "cfg": pyslowfast_cfg("c2d", frames=8)})
    assert record.error(as_recorded(network, record.input())) > 1e-5


def _convert(content: Any, answers: ConversionOptions | None = None, labels: list[str] | None = None):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        torch.save(content, Path(folder, "theirs.pth"))
        return convert_file(Path(folder, "theirs.pth"), options=answers, labels=labels)


def narrow(name: str, classes: int = 7) -> dict[str, Tensor]:
    """The weights of a record's network with an eighth of its channels, by the same rule. Tensors are shared."""
    return dict(_narrow(name, classes))


@cache
def _narrow(name: str, classes: int) -> dict[str, Tensor]:
    record = read_record(name)
    shapes = {}
    for key, shape in record.shapes.items():
        sizes = [size if size == 3 and i == 1 else max(size // 8, 1) if i < 2 else size for i, size in enumerate(shape)]
        if "projection" in key or "fc_cls" in key:
            sizes[0] = classes
        shapes[key] = tuple(sizes)
    return {key: fill(key, shape, record.about["gain"]) for key, shape in shapes.items()}


@pytest.mark.slow
def test_caffe2s_pickle_is_the_same_network_as_pyslowfasts(tmp_path: Path) -> None:
    """Blob names as PySlowFast's own converter has them, in a pickle of Python 2's kind."""
    state = narrow("pyslowfast_I3D_NLN_8x8_R50")
    names = read_record("pyslowfast_I3D_NLN_8x8_R50").second_names
    blobs = {names[key]: value.numpy() for key, value in state.items() if key in names}
    extra = {"conv1_w_momentum": np.zeros(3, np.float32), "lr": np.float32(0.1), "model_iter": np.array([7])}
    with (tmp_path / "model.pkl").open("wb") as file:
        pickle.dump({"blobs": {**blobs, **extra}}, file, protocol=2)
    with pytest.raises(FarfieldError, match=r"does not state .*:\n  - the pairwise function.*embedded_gaussian"):
        convert_file(tmp_path / "model.pkl")
    told = {"block_options": {"pairwise": "embedded_gaussian"}, "backbone_options": {"stem_pool_padding": True}}
    network, report = convert_file(tmp_path / "model.pkl", options=ConversionOptions(**told, clip={"crop_px": 64}))
    twin, _ = _convert({"model_state": state, "cfg": pyslowfast_cfg("i3d", frames=8, **SOFTMAX)})
    assert network.config["backbone_options"] == {"width": 8, "stem_pool_padding": True}
    assert network.config["head_windows"] == twin.config["head_windows"] == [[4, 2, 2]]
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), twin.state_dict().values(), strict=True)
    )
    assert dict(report.ignored).keys() == extra.keys()
    assert len(report.set_to_zero) == sum(key.endswith("num_batches_tracked") for key in state)


def test_caffe2s_frozen_norms_are_a_scale_and_a_shift(tmp_path: Path) -> None:
    names = read_record("pyslowfast_C2D_8x8_R50")
    state = narrow("pyslowfast_C2D_8x8_R50")
    second = read_record("pyslowfast_I3D_NLN_8x8_R50").second_names  # the same names, but for the blocks
    blobs = {second[key]: value.numpy() for key, value in state.items() if key in second}
    blobs = {name: value for name, value in blobs.items() if not name.endswith(("_rm", "_riv"))}
    assert len(blobs) < len(names.shapes)
    with (tmp_path / "model.pkl").open("wb") as file:
        pickle.dump({"blobs": blobs}, file, protocol=2)
    with pytest.raises(
        FarfieldError, match=r"number of frames is halved after res2(.|\n)*whether the stem's pooling is padded"
    ):
        convert_file(tmp_path / "model.pkl")
    network, report = convert_file(
        tmp_path / "model.pkl",
        options=ConversionOptions(backbone_options={"temporal_pool": True, "stem_pool_padding": False}),
    )
    assert network.backbone.trunk.blocks[0].pool.padding == (0, 0, 0)
    norm = network.backbone.trunk.blocks[0].norm.eval()
    x = torch.randn(2, 8, 1, 3, 3)
    scale, shift = state["s1.pathway0_stem.bn.weight"], state["s1.pathway0_stem.bn.bias"]
    torch.testing.assert_close(norm(x), x * scale.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1))
    assert any("have only a scale and a shift" in note for note in report.notes)


@pytest.mark.slow
def test_slowfast_of_caffe2_asks_for_alpha(tmp_path: Path) -> None:
    state = narrow("pyslowfast_SLOWFAST_8x8_R50")
    names = read_record("pyslowfast_SLOWFAST_8x8_R50").second_names
    with (tmp_path / "model.pkl").open("wb") as file:
        pickle.dump({"blobs": {names[k]: v.numpy() for k, v in state.items() if k in names}}, file, protocol=2)
    with pytest.raises(FarfieldError, match=r"how many fast frames there are per slow frame: --backbone_options"):
        convert_file(tmp_path / "model.pkl")
    network, _ = convert_file(tmp_path / "model.pkl", options=ConversionOptions(backbone_options={"alpha": 4}))
    twin, _ = _convert({"model_state": state, "cfg": pyslowfast_cfg("slowfast", frames=32, crop=224, **ALPHA)})
    assert network.backbone.alpha == 4
    assert network.config["head_windows"] == twin.config["head_windows"] == [[8, 7, 7], [32, 7, 7]]
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), twin.state_dict().values(), strict=True)
    )


@pytest.mark.slow
def test_x3d_of_pyslowfast_is_pytorchvideos_but_for_one_norm() -> None:
    record = read_record("pytorchvideo_x3d_s")
    state = {record.second_names[key]: value for key, value in record.state().items()}
    with pytest.raises(FarfieldError, match="which X3D it is: --backbone x3d_xs, x3d_s or x3d_m"):
        _convert({"model_state": state})
    cfg = pyslowfast_cfg("x3d", frames=13, RESNET={"TRANS_FUNC": "x3d_transform"})
    network, _ = _convert({"model_state": state, "cfg": cfg})
    assert network.config["backbone"] == "x3d_s"
    assert record.error(as_recorded(network, record.input())) < record.tolerance()
    norm = nn.BatchNorm3d(24)
    extra = {f"s2.pathway0_res0.branch1_bn.{key}": fill(key, value.shape) for key, value in norm.state_dict().items()}
    network, _ = _convert({"model_state": state | extra, "cfg": cfg})
    block = network.backbone.blocks("res2")[0]
    norm.load_state_dict({key.rpartition(".")[2]: value for key, value in extra.items()})
    x = torch.randn(1, 24, 2, 8, 8)
    with torch.no_grad():
        expected = block.activation(norm.eval()(block.branch1_conv(x)) + block.branch2(x))
        torch.testing.assert_close(block(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_torchvisions_networks_give_the_same_here(name: str, tmp_path: Path) -> None:
    theirs = get_model(name, num_classes=400).eval()
    theirs.load_state_dict({k: _lively(k, v) for k, v in theirs.state_dict().items()})
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours, report = convert_file(tmp_path / "theirs.pth")
    frames, side = {"s3d": (18, 224), "mvit_v2_s": (16, 224), "swin3d_t": (4, 64)}.get(name, (6, 72))
    x = torch.randn(1, 3, frames, side, side)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert ours.config["backbone"] == name
    assert ours.labels[:2] == ["abseiling", "air drumming"]
    assert len(report.mapped) == len(theirs.state_dict())


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_are_known_by_their_weights(name: str) -> None:
    with torch.device("meta"):
        state = get_model(name, num_classes=7).state_dict()
    found = describe_torchvision(state, ConversionOptions(), "theirs.pth")
    assert found.arguments["backbone"] == name
    with torch.device("meta"):
        ours = build_model(name, num_classes=7)
    wanted = {key: value.shape for key, value in ours.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = {key: value.shape for key, value in found.state.items() if not key.endswith("num_batches_tracked")}
    assert given == wanted


def _lively(name: str, value: Tensor) -> Tensor:
    """Statistics and scales that matter, so that a lost one shows."""
    if not value.is_floating_point() or value.ndim != 1:
        return value
    return fill(name, tuple(value.shape)) if name.endswith(("running_mean", "running_var", "weight", "bias")) else value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hub_name"),
    [
        ("c2d_r50", "c2d_r50"),
        ("r2plus1d_r50", "r2plus1d_r50"),
        ("slowfast_r101", "slowfast_r101"),
        ("slowfast_16x8_r101", "slowfast_16x8_r101_50_50"),
        ("x3d_xs", "x3d_xs"),
        ("x3d_m", "x3d_m"),
        ("x3d_l", "x3d_l"),
    ],
)
def test_pytorchvideos_hub_networks_give_the_same_here(name: str, hub_name: str, tmp_path: Path) -> None:
    """Those that have no record; at the training size, where every head sees one window, and on a wider clip."""
    import pytorchvideo.models.hub as hub

    torch.manual_seed(1)
    theirs = getattr(hub, hub_name)(model_num_class=5).eval()
    theirs.load_state_dict({k: _lively(k, v) for k, v in theirs.state_dict().items()})
    _shrink_pool(theirs, 2)
    torch.save({"model_state": theirs.state_dict()}, tmp_path / "theirs.pyth")
    answers = ConversionOptions(backbone=name if name in ("x3d_xs", "x3d_m") else None, clip={"crop_px": 64})
    ours, _ = convert_file(tmp_path / "theirs.pyth", options=answers)
    assert ours.config["backbone"] == name
    x = torch.randn(1, 3, ours.clip.num_frames, 64, 96)
    with torch.no_grad():
        if ours.backbone.num_pathways == 2:
            index = torch.linspace(0, x.shape[2] - 1, x.shape[2] // 4).long()
            expected = theirs([x[:, :, index], x])
        else:
            expected = theirs(x)
        found = ours(x)
    found = found.softmax(-1) if ours.head.kind == "window_softmax_mean" else found
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def _shrink_pool(network: nn.Module, side: int) -> None:
    """Makes PyTorchVideo's head pool the feature map of a smaller crop."""
    for module in network.modules():
        if isinstance(module, nn.AvgPool3d):
            module.kernel_size = (module.kernel_size[0], side, side)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("mode='dot_product', sub_sample=True", {"pairwise": "dot_product", "pool_after_projection": True}),
        ("mode='embedded_gaussian', sub_sample=True, use_scale=True", {"pairwise": "embedded_gaussian", "scale": True}),
        ("sub_sample=True", {"pairwise": "embedded_gaussian", "scale": True}),  # mmcv's own defaults
    ],
)
def test_mmaction2_config_sets_block_options(mode: str, expected: dict[str, Any]) -> None:
    state = narrow("mmaction2_I3D_R50_embedded_gaussian")
    meta = mmaction2_config(f"{I3D_OF_MMACTION2}, non_local_cfg=dict({mode})")
    network, _ = _convert({"state_dict": state, "meta": meta})
    assert expected.items() <= network.config["block_options"].items()
    assert network.config["block_options"]["out_bias"] is False
    assert network.config["insert"] == {"res3": [1, 3], "res4": [1, 3, 5]}


def test_mmaction2_pipelines_set_clip_views_and_normalisation() -> None:
    rest = """
train_pipeline = [dict(type='Resize', scale=(-1, 256)), dict(type='Resize', scale=(192, 192), keep_ratio=False)]
test_pipeline = [
    dict(type='SampleFrames', clip_len=4, frame_interval=16, num_clips=7, test_mode=True, target_fps=24,
         out_of_bound_opt='repeat_last'),
    dict(type='Resize', scale=(-1, 320)), dict(type='ThreeCrop', crop_size=288)]
"""
    pixels = "data_preprocessor=dict(mean=[102.0, 51.0, 25.5], std=[51.0, 51.0, 51.0])"
    state = narrow("mmaction2_I3D_R50_none")
    config = mmaction2_config(f"conv1_stride_t=1, pool1_stride_t=1), {pixels}, other=dict(a=1", rest)
    clip = _convert({"state_dict": state, "meta": config})[0].clip
    assert (clip.num_frames, clip.frame_stride, clip.num_clips, clip.num_crops) == (4, 16, 7, 3)
    assert (clip.target_fps, clip.short_clip) == (24, "clamp")
    assert (clip.crop_px, clip.test_crop_px, clip.short_side_px) == (192, 288, 320)
    assert clip.mean == pytest.approx((0.4, 0.2, 0.1))
    assert clip.std == pytest.approx((0.2, 0.2, 0.2))


@pytest.mark.slow
def test_mmaction2_without_its_config_asks() -> None:
    state = narrow("mmaction2_I3D_R50_embedded_gaussian")
    with pytest.raises(FarfieldError, match=r"temporal strides of the stem(.|\n)*pairwise function of its non-local"):
        _convert({"state_dict": state})
    answers = ConversionOptions(
        backbone_options={"stem_temporal_strides": [2, 2]},
        block_options={"pairwise": "embedded_gaussian", "scale": False},
    )
    network, report = _convert({"state_dict": state}, answers)
    twin, _ = _convert({"state_dict": state, "meta": mmaction2_config(f"{I3D_OF_MMACTION2}, {NON_LOCAL}")})
    assert network.config["block_options"] == twin.config["block_options"]
    assert network.clip.num_frames == 32
    assert any("10 clips x 3 crops of 256 px" in note for note in report.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MODEL": {"ARCH": "mvit"}}, "MODEL.ARCH 'mvit'. Values that can be converted: c2d"),
        (
            {"MODEL": {"ARCH": "i3d", "HEAD_ACT": "tanh"}},
            "HEAD_ACT to tanh; only softmax or sigmoid is supported",
        ),
        (
            {"DATA": {"ENSEMBLE_METHOD": "median"}},
            "METHOD 'median'. Values that can be converted: sum, max",
        ),
        ({"RESNET": {"NUM_GROUPS": 32}}, "RESNET.NUM_GROUPS to 32"),
        ({"RESNET": {"SPATIAL_DILATIONS": [[1], [1], [1], [2]]}}, "spatial strides .* and dilations"),
        ({"NONLOCAL": {"GROUP": [[1], [4], [1], [1]]}}, r"groups of frames \(NONLOCAL.GROUP \[1, 4\]\)"),
        ({"NONLOCAL": {"POOL": [[[1, 1, 1]], [[1, 2, 2]], [[1, 1, 1]], [[1, 1, 1]]]}}, "pool keys by different"),
        ({"NONLOCAL": {"INSTANTIATION": "gaussian"}}, "INSTANTIATION 'gaussian'"),
    ],
)
def test_inexact_conversions_are_refused(change: dict[str, Any], message: str) -> None:
    cfg = {**SOFTMAX, **{key: {**SOFTMAX.get(key, {}), **value} for key, value in change.items()}}
    state = narrow("pyslowfast_I3D_NLN_8x8_R50")
    with pytest.raises(FarfieldError, match=message):
        _convert({"model_state": state, "cfg": pyslowfast_cfg(cfg.pop("MODEL", {}).get("ARCH", "i3d"), frames=8, **(
            {**cfg, "MODEL": change["MODEL"]} if "MODEL" in change else cfg))})  # fmt: skip


@pytest.mark.parametrize("asked", [True, False])
def test_pooling_cannot_be_moved_across_the_projection(asked: bool) -> None:
    name = "pyslowfast_I3D_NLN_8x8_R50" if asked else "mmaction2_I3D_R50_embedded_gaussian"
    about = {"cfg": pyslowfast_cfg("i3d", frames=8, **SOFTMAX)} if asked else {
        "meta": mmaction2_config(f"{I3D_OF_MMACTION2}, {NON_LOCAL}")
    }  # fmt: skip
    key = "model_state" if asked else "state_dict"
    with pytest.raises(FarfieldError, match="pooling the keys after the projection and pooling them before it"):
        _convert({key: narrow(name), **about}, ConversionOptions(block_options={"pool_after_projection": asked}))


def test_a_config_without_key_pooling_is_followed() -> None:
    cfg = pyslowfast_cfg("i3d", frames=8, NONLOCAL={"INSTANTIATION": "dot_product", "POOL": [[[1, 1, 1]]] * 4})
    network, _ = _convert({"model_state": narrow("pyslowfast_I3D_NLN_8x8_R50"), "cfg": cfg})
    assert network.config["block_options"] == {"pairwise": "dot_product", "key_pool": None}


def test_missing_and_unexpected_weights_are_reported() -> None:
    state = narrow("pyslowfast_C2D_8x8_R50")
    cfg = pyslowfast_cfg("c2d", frames=8)
    surplus = {**state, "s3.pathway0_res9.branch9.weight": torch.zeros(2)}
    with pytest.raises(FarfieldError, match=r"unexpected: s3.pathway0_res9.branch9.weight(.|\n)*Nothing was converted"):
        _convert({"model_state": surplus, "cfg": cfg})
    short = {key: value for key, value in state.items() if key != "s5.pathway0_res2.branch2.c.weight"}
    with pytest.raises(FarfieldError, match=r"missing: backbone.trunk.blocks.5.res_blocks.2.branch2.conv_c.weight"):
        _convert({"model_state": short, "cfg": cfg})
    other = {**state, "s5.pathway0_res2.branch2.b.weight": torch.zeros(64, 64, 1, 5, 5)}
    with pytest.raises(FarfieldError, match=r"shape: s5.*b.weight is \(64, 64, 1, 5, 5\), the network's is"):
        _convert({"model_state": other, "cfg": cfg})
    with pytest.raises(FarfieldError, match=r"has an unknown origin: its weights are named a.weight"):
        _convert({"a.weight": torch.zeros(2)})
    with pytest.raises(FarfieldError, match="is an image network"):
        _convert({"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)})


@pytest.mark.slow
def test_wrapper_prefix_is_removed_and_bgr_kernels_are_reordered() -> None:
    state = narrow("pyslowfast_C2D_8x8_R50")
    cfg = pyslowfast_cfg("c2d", frames=8)
    plain, _ = _convert({"model_state": state, "cfg": cfg})
    wrapped, _ = _convert({"model_state": {f"module.{key}": value for key, value in state.items()}, "cfg": cfg})
    x = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain(x), wrapped(x))
        bgr, report = _convert(
            {"model_state": state, "cfg": pyslowfast_cfg("c2d", frames=8, DATA={"REVERSE_INPUT_CHANNEL": True})}
        )
        torch.testing.assert_close(bgr(x.flip(1)), plain(x))
    assert any("changed to take RGB" in note for note in report.notes)


@pytest.mark.slow
def test_labels_come_from_the_user_or_from_the_number_of_classes() -> None:
    state, cfg = narrow("pyslowfast_C2D_8x8_R50"), pyslowfast_cfg("c2d", frames=8)
    content = {"model_state": state, "cfg": cfg}
    assert _convert(content)[0].labels == [str(i) for i in range(7)]
    names = list("abcdefg")
    assert _convert(content, labels=names)[0].labels == names
    with pytest.raises(FarfieldError, match=r"the number of labels is 6, but .* has 7 classes"):
        _convert(content, labels=names[:6])
    full = _convert({"model_state": narrow("pyslowfast_C2D_8x8_R50", classes=400), "cfg": cfg})[0]
    assert full.labels == kinetics400_labels()
    assert len(set(full.labels)) == 400


def test_the_head_can_be_chosen_and_the_clip_changed() -> None:
    content = {"model_state": narrow("pyslowfast_C2D_8x8_R50"), "cfg": pyslowfast_cfg("c2d", frames=8, crop=96)}
    network, _ = _convert(content, ConversionOptions(head="gap_fc"))
    assert (network.config["head"], network.config["head_windows"]) == ("gap_fc", None)
    assert _convert(content)[0].config["head_windows"] == [[4, 3, 3]]
    assert _convert(content, ConversionOptions(clip={"num_frames": 4}))[0].config["head_windows"] == [[2, 3, 3]]


@pytest.mark.slow
def test_pyslowfasts_wrappers_of_pytorchvideo_average_probabilities() -> None:
    record = read_record("pytorchvideo_slow_r50")
    state = {f"model.{key}": value for key, value in record.state().items()}
    network, _ = _convert({"model_state": state, "cfg": pyslowfast_cfg("slow", frames=8)})
    assert network.config["head"] == "window_softmax_mean"
    assert network.config["head_windows"] == [[8, 2, 2]]
    plain, report = _convert({"model_state": record.state()}, ConversionOptions(clip={"crop_px": 64}))
    assert any("8 frames with stride 8 are assumed, as in PyTorchVideo's slow_r50" in note for note in report.notes)
    x = record.input()[..., :64]  # one window: the two heads agree
    with torch.no_grad():
        torch.testing.assert_close(network(x), plain(x))


@pytest.mark.slow
def test_slowfast_4x16_of_pytorchvideo_is_recognised_by_its_fusion_kernel() -> None:
    from pytorchvideo.models.slowfast import create_slowfast

    theirs = create_slowfast(slowfast_fusion_conv_kernel_size=(5, 1, 1), slowfast_fusion_conv_stride=(8, 1, 1)).eval()
    _shrink_pool(theirs, 2)
    for pool in theirs.blocks[-2].pool:
        pool.kernel_size = (4 if pool.kernel_size[0] == 8 else 32, 2, 2)
    content = {"model_state": theirs.state_dict()}
    with pytest.raises(FarfieldError, match=r"'\{alpha: 8\}' \(SlowFast 4x16\)"):
        _convert(content)
    ours, _ = _convert(content, ConversionOptions(backbone_options={"alpha": 8}, clip={"crop_px": 64}))
    x = torch.randn(1, 3, 32, 64, 64)
    with torch.no_grad():
        index = torch.linspace(0, 31, 4).long()
        torch.testing.assert_close(ours(x), theirs([x[:, :, index], x]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "pooled"), [("ResNet3d", True), ("ResNet3dSlowOnly", False)])
def test_mmaction2s_networks_pool_time_by_default_as_their_class_does(kind: str, pooled: bool) -> None:
    state = {
        key: value[:, :, :1] if value.ndim == 5 else value for key, value in narrow("mmaction2_I3D_R50_none").items()
    }
    network, _ = _convert(
        {"state_dict": state, "meta": mmaction2_config(f"type='{kind}', conv1_stride_t=1, pool1_stride_t=1")}
    )
    assert network.config["backbone"] == "c2d_r50"
    assert network.backbone(torch.randn(1, 3, 4, 32, 32)).shape[2] == (2 if pooled else 4)
