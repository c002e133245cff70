from __future__ import annotations

import logging
import warnings

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from checkpoints.recorded_network import read_record
from farfield import build_model
from farfield.models.structure_only import structure_only
from farfield.models.summary import summarise

RECORDED = {
    "pyslowfast_C2D_8x8_R50": ("c2d_r50", None, {}),
    "pyslowfast_I3D_NLN_8x8_R50": ("i3d_r50", "nl5", {}),
    "pyslowfast_SLOW_8x8_R50": ("slow_r50", None, {}),
    "pyslowfast_SLOWFAST_8x8_R50": ("slowfast_r50", None, {}),
    "pytorchvideo_csn_r101": ("csn_r101", None, {}),
    "pytorchvideo_x3d_s": ("x3d_s", None, {}),
    "mmaction2_I3D_R50_none": ("i3d_r50", None, {"stem_temporal_strides": [2, 2]}),
}


@pytest.mark.parametrize("name", RECORDED)
def test_counts_match_fvcores_for_recorded_networks(name: str) -> None:
    about = read_record(name).about
    backbone, insert, options = RECORDED[name]
    head = "gap_fc" if name.startswith("mmaction2") else "window_mean"
    with structure_only():
        network = build_model(backbone, num_classes=400, insert=insert, backbone_options=options, head=head)
    summary = summarise(network)
    assert [1, 3, *summary.clip] == about["multiply_adds_input"]
    assert summary.multiply_adds == about["multiply_adds"]
    assert summary.parameters == about["parameters"]
    if "multiply_adds_test" in about:
        larger = summarise(network, side_px=about["multiply_adds_test_input"][-1])
        assert larger.multiply_adds == about["multiply_adds_test"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "after", "added"),
    [(8, False, 8.13), (8, True, 11.21), (16, False, 22.23), (16, True, 28.40)],
)
def test_five_blocks_add_the_published_costs(frames: int, after: bool, added: float) -> None:
    """In G multiply-adds, norms aside; blocks at 4 and at 8 frames, which are half of the clip's."""
    costs = []
    for insert in (None, "nl5"):
        with structure_only():
            options = {"pool_after_projection": after} if insert else None
            network = build_model("i3d_r50", num_classes=400, insert=insert, block_options=options)
        summary = summarise(network, num_frames=frames)
        costs.append((summary.parameters, summary.multiply_adds))
    blocks = [row for row in summary.rows if "non_local" in row.part]
    norms = sum(2 * row.output[0] * row.output[1] * row.output[2] * row.output[3] for row in blocks)
    assert costs[1][0] - costs[0][0] == 7_358_464
    assert costs[1][1] - costs[0][1] - norms == pytest.approx(added * 1e9, abs=0.005e9)
    assert sum(row.multiply_adds for row in blocks) == costs[1][1] - costs[0][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [("tiny", {}), ("tiny", {"dilated": True}), ("r2plus1d_18", {}), ("s3d", {})]
)
def test_counts_match_fvcore(name: str, options: dict) -> None:
    frames, side = (16, 64) if name == "s3d" else (5, 40)
    clip = {"num_frames": frames, "crop_px": side}
    network = build_model(name, num_classes=5, backbone_options=options, clip=clip, insert={"res3": [0]}).eval()
    block = network.backbone.blocks("res3")[0]
    network.backbone.replace_block("res3", 0, block.residual)  # fvcore does not know all that is in ours
    theirs = FlopCountAnalysis(network, torch.randn(1, 3, frames, side, side))
    theirs.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        total = theirs.total()
    assert summarise(network).multiply_adds == total


def test_rows_follow_the_network() -> None:
    network = build_model(
        "slowfast_r50", num_classes=9, insert={"res3": [1], "fast_res4": [2]}, backbone_options={"width": 8}
    )
    summary = summarise(network, side_px=64)
    parts = [row.part for row in summary.rows]
    assert parts == [
        "stem", "res2", "fast_res2", "res3", "res3[1] non_local", "fast_res3", "res4", "fast_res4",
        "fast_res4[2] non_local", "res5", "fast_res5", "head",
    ]  # fmt: skip
    assert summary.parameters == sum(p.numel() for p in network.parameters())
    rows = dict(zip(parts, summary.rows, strict=True))
    assert rows["res3[1] non_local"].output == (64, 8, 8, 8)
    assert rows["fast_res5"].output == (32, 32, 2, 2)
    block = network.backbone.blocks("res3")[1].inserted
    assert rows["res3[1] non_local"].parameters == sum(p.numel() for p in block.parameters())
    # theta, w_z and the norm of 32, 64 and 64 channels at 512 positions; phi and g at a quarter of them; in float32
    assert rows["res3[1] non_local"].activation_bytes == 4 * 512 * (32 + 64 + 64 + 2 * 32 // 4)
    assert next(network.parameters()).device.type == "cpu"
