from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from checkpoints.recorded_network import pyslowfast_cfg, read_record
from checkpoints.test_converters import ALPHA, SOFTMAX, narrow
from farfield import build_model
from farfield.checkpoints.converters.conversion_options import ConversionOptions
from farfield.checkpoints.converters.convert_file import convert_file
from farfield.checkpoints.converters.reverse_conversion import to_pyslowfast, to_pytorchvideo
from farfield.clip_spec import ClipOptions
from farfield.errors import FarfieldError

CFGS = {
    "pyslowfast_C2D_8x8_R50": pyslowfast_cfg("c2d", frames=8),
    "pyslowfast_I3D_NLN_8x8_R50": pyslowfast_cfg("i3d", frames=8, **SOFTMAX),
    "pyslowfast_SLOW_8x8_R50": pyslowfast_cfg("slow", frames=8),
    "pyslowfast_SLOWFAST_8x8_R50": pyslowfast_cfg("slowfast", frames=32, **ALPHA),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CFGS)
def test_pyslowfast_round_trip_is_exact(name: str, tmp_path: Path) -> None:
    state = narrow(name)
    torch.save({"model_state": state, "cfg": CFGS[name]}, tmp_path / "theirs.pyth")
    network, _ = convert_file(tmp_path / "theirs.pyth")
    back = to_pyslowfast(network)
    assert back["model_state"].keys() == state.keys()
    assert all(torch.equal(back["model_state"][key], value) for key, value in state.items())
    torch.save(back, tmp_path / "back.pyth")
    again, _ = convert_file(tmp_path / "back.pyth")
    assert {**again.config, "clip": None} == {**network.config, "clip": None}
    assert again.clip == network.clip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "i3d_r101",
            {},
            {"MODEL.ARCH": "i3d", "RESNET.DEPTH": 101, "RESNET.NUM_BLOCK_TEMP_KERNEL": [[3], [4], [23], [3]]},
        ),
        ("i3d_r50", {"temporal_pool": False}, {"MODEL.ARCH": "slow_i3d"}),
        ("slow_r50", {"temporal_pool": False}, {"MODEL.ARCH": "slow"}),
        (
            "slowfast_16x8_r101",
            {},
            {
                "RESNET.NUM_BLOCK_TEMP_KERNEL": [[3, 3], [4, 4], [6, 6], [3, 3]],
                "RESNET.SPATIAL_STRIDES": [[1, 1], [2, 2], [2, 2], [2, 2]],
                "SLOWFAST.FUSION_KERNEL_SZ": 5,
            },
        ),
    ],
)
def test_written_config_defines_the_network(name: str, options: dict, expected: dict) -> None:
    with torch.device("meta"):
        cfg = yaml.safe_load(to_pyslowfast(build_model(name, num_classes=4, backbone_options=options))["cfg"])
    for key, value in expected.items():
        section, setting = key.split(".")
        assert cfg[section][setting] == value


def test_x3d_goes_back_to_pyslowfast(tmp_path: Path) -> None:
    record = read_record("pytorchvideo_x3d_s")
    network = build_model("x3d_s", num_classes=400, backbone_options={"norm_on_first_shortcut": True})
    names = set(to_pyslowfast(network)["model_state"])
    assert set(record.second_names.values()) < names
    assert {name.rpartition(".")[0] for name in names - set(record.second_names.values())} == {
        "s2.pathway0_res0.branch1_bn"
    }
    with pytest.raises(FarfieldError, match="this network was built without it"):
        to_pyslowfast(build_model("x3d_s", num_classes=4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c2d_r50", "slowfast_r50", "x3d_xs", "csn_r101"])
def test_pytorchvideo_builders_load_converted_networks(name: str) -> None:
    import pytorchvideo.models.hub as hub

    network = build_model(name, num_classes=6)
    theirs = getattr(hub, name)(model_num_class=6)
    state = to_pytorchvideo(network)["model_state"]
    theirs.load_state_dict(state)  # strict
    assert torch.equal(theirs.blocks[-1].proj.weight, network.head.fc.weight)


@pytest.mark.parametrize(
    ("arguments", "to", "message"),
    [
        (
            {"backbone": "i3d_r50", "insert": "nl5"},
            to_pytorchvideo,
            "i3d_r50 with .* cannot be converted to PyTorchVideo.*without non-local blocks",
        ),
        (
            {"backbone_options": {"stem_pool_padding": False}},
            to_pytorchvideo,
            "c2d_r50 with options .* cannot be converted",
        ),
        (
            {"backbone_options": {"stem_pool_padding": False}},
            to_pyslowfast,
            "c2d_r50 with options .* cannot be converted",
        ),
        (
            {"clip": {"test_crop_px": 256}},
            to_pytorchvideo,
            "the converted network uses the head 'window_mean', so its scores would differ. .*, head='window_mean'",
        ),
        (
            {"clip": {"test_crop_px": 256}},
            to_pyslowfast,
            "the converted network uses the head 'window_softmax_mean', so its scores would differ",
        ),
        (
            {"clip": {"test_crop_px": 256}, "insert": "nl5"},
            to_pyslowfast,
            r"build_model\('c2d_r50', weights=CHECKPOINT, insert='nl5', head='window_softmax_mean'\)",
        ),
        ({"backbone": "tiny"}, to_pytorchvideo, "tiny with options .* cannot be converted"),
        ({"backbone": "r3d_18"}, to_pyslowfast, "r3d_18 with options .* cannot be converted"),
        (
            {"backbone": "c2d_r50", "backbone_options": {"dilated": True}},
            to_pyslowfast,
            "c2d_r50 with options .* cannot be converted",
        ),
        ({"insert": "nl1", "block": "criss_cross"}, to_pyslowfast, "PySlowFast has no block criss_cross"),
        ({"insert": "nl1", "block_options": {"pairwise": "gaussian"}}, to_pyslowfast, "no pairwise function gaussian"),
        (
            {"insert": "nl1", "block_options": {"pool_after_projection": True}},
            to_pyslowfast,
            "these blocks pool them after it",
        ),
        ({"insert": "nl1", "block_options": {"scale": False}}, to_pyslowfast, "embedded_gaussian with scale False"),
        ({"insert": "nl1", "block_options": {"out_bias": False}}, to_pyslowfast, "have a bias before the norm"),
        ({"insert": "nl1", "block_options": {"num_heads": 2}}, to_pyslowfast, "does not have the options num_heads"),
    ],
)
def test_inexpressible_networks_are_refused(arguments: dict, to, message: str) -> None:
    with torch.device("meta"):
        network = build_model(**{"backbone": "c2d_r50", "num_classes": 4} | arguments)
    with pytest.raises(FarfieldError, match=message):
        to(network)


def test_a_converted_network_of_other_blocks_is_refused(tmp_path: Path) -> None:
    meta = {
        "cfg": "model = dict(backbone=dict(conv1_stride_t=1, pool1_stride_t=1, non_local_cfg=dict(mode='dot_product')))"
    }
    torch.save({"state_dict": narrow("mmaction2_I3D_R50_embedded_gaussian"), "meta": meta}, tmp_path / "a.pth")
    network, _ = convert_file(tmp_path / "a.pth", options=ConversionOptions())
    with pytest.raises(FarfieldError, match="pools the keys before the projection"):
        to_pyslowfast(network)


@pytest.mark.slow
def test_other_test_views_of_pyslowfast_are_told(caplog: pytest.LogCaptureFixture) -> None:
    same: ClipOptions = {"target_fps": 30, "short_side_px": 224, "short_clip": "clamp"}
    with torch.device("meta"):
        to_pyslowfast(build_model("slow_r50", num_classes=4, clip=same))
        assert caplog.messages == []
        to_pyslowfast(build_model("slow_r50", num_classes=4, clip={"short_side_px": 288}))
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "PySlowFast resizes the short side of test frames to its crop, 224 px",
        "PySlowFast resamples videos to DATA.TARGET_FPS, which is 30 unless it is set",
        "PySlowFast repeats the last frame of a video that is shorter than a clip",
    ]
