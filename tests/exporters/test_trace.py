"""Graphs, run by PyTorch, against the networks that they come from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from exporters.networks import awake
from farfield.exporters.operator_forms import graph_forms, softmax_attention
from farfield.exporters.trace import Traced, trace
from farfield.models.backbones import BACKBONES
from farfield.models.network import ActionNet
from farfield.runtimes.torch_export_archive import read_pt2, write_pt2

BLOCKS: list[tuple[str, dict[str, Any], bool]] = [
    ("non_local", {"pairwise": "embedded_gaussian"}, True),
    ("non_local", {"pairwise": "gaussian"}, True),
    ("non_local", {"pairwise": "dot_product"}, True),
    ("non_local", {"pairwise": "concatenation"}, True),
    ("non_local", {"pairwise": "concatenation", "groups": 2}, True),
    ("non_local", {"pool_after_projection": True, "num_heads": 2}, True),
    ("non_local", {"scope": "space"}, True),
    ("non_local", {"scope": "time"}, True),
    ("self_attention", {}, True),
    ("self_attention", {"similarity": "concatenation"}, True),
    ("self_attention", {"similarity": "perceptron"}, False),
    ("dual_attention", {}, True),
    ("criss_cross", {}, True),
    ("coordinate_attention", {}, True),
    ("object_context", {}, True),
]

SLOW = ("mvit_v2_s", "swin3d_t", "slowfast_r50")


def apart(network: ActionNet, module: torch.nn.Module, *size: int) -> float:
    clips = torch.randn(size[0], 3, *size[1:])
    with torch.no_grad():
        expected, given = network(clips), module(clips)
    return float((expected - given).abs().max() / expected.abs().max())


def from_file(traced: Traced, path: Path) -> torch.nn.Module:
    """The graph as it is read from its archive, which must hold nothing that reading refuses."""
    write_pt2(traced.program, "{}", path)
    return read_pt2(path)[0].module(check_guards=False)


@pytest.mark.slow
@pytest.mark.parametrize(("block", "options", "any_length"), BLOCKS)
def test_every_block_has_a_graph_that_is_right_at_other_sizes(
    block: str, options: dict[str, Any], any_length: bool, tmp_path: Path
) -> None:
    network = awake(block=block, block_options=options)
    without = awake(insert=None)
    without.load_state_dict(
        {k.replace(".residual.", "."): v for k, v in network.state_dict().items() if ".inserted." not in k}
    )
    traced = trace(network)
    module = from_file(traced, tmp_path / "a.pt2")
    assert (traced.any_batch, traced.any_length) == (True, any_length)
    for size in ((1, 4), (5, 4), *(((2, 3), (1, 9)) if any_length else ())):
        assert apart(network, module, *size, 32, 32) < 1e-5
    assert apart(without, module, 2, 4, 32, 32) > 1e-3  # the block has its part in the scores


@pytest.mark.slow
@pytest.mark.parametrize(
    # Of each kind one. The transformers' graphs take half a minute; two pathways are in test_export.py.
    "name",
    [n for n in BACKBONES if not n.endswith("r101") and n not in ("x3d_s", "x3d_m", "x3d_l", *SLOW)],
)
def test_every_backbone_has_a_graph(name: str, tmp_path: Path) -> None:
    clip = {
        "s3d": {"num_frames": 16, "crop_px": 64},
    }.get(name, {"num_frames": 8, "crop_px": 32})
    options = {"width": 8} if name in ("c2d_r50", "i3d_r50", "slow_r50") else {}
    network = awake(backbone=name, insert=None, backbone_options=options, clip=clip)
    traced = trace(network)
    module = from_file(traced, tmp_path / "a.pt2")
    assert traced.any_batch
    assert apart(network, module, 3, clip["num_frames"], clip["crop_px"], clip["crop_px"]) < 1e-4


def test_a_head_of_windows_fixes_the_length() -> None:
    clip = {"num_frames": 4, "crop_px": 32, "test_crop_px": 64}
    network = awake(head="window_softmax_mean", clip=clip)
    traced = trace(network)
    assert (traced.any_batch, traced.any_length) == (True, False)
    assert apart(network, traced.program.module(check_guards=False), 3, 4, 64, 64) < 1e-5


def test_the_layers_are_as_before_once_a_graph_is_made() -> None:
    from farfield.layers import non_local

    before = non_local.embedded_gaussian, non_local.memory_format
    with suppress(KeyboardInterrupt), graph_forms():
        assert non_local.embedded_gaussian is softmax_attention
        raise KeyboardInterrupt
    assert (non_local.embedded_gaussian, non_local.memory_format) == before
