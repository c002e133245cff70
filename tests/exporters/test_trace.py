"""Graphs, run by PyTorch, against the networks that they come from."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import nn

import layers.blocks
from exporters.networks import awake, without_repeats
from farfield.clip_spec import ClipSpec
from farfield.exporters.operator_forms import graph_forms, softmax_attention
from farfield.exporters.trace import Traced, trace, without_shape_checks
from farfield.models.backbones import BACKBONES
from farfield.models.insertion import BLOCKS as INSERTED
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
    ("criss_cross", {"passes": 2}, True),
    ("coordinate_attention", {}, True),
    ("object_context", {"num_regions": 5}, True),
]

OTHERS = {
    **dict.fromkeys(
        (name for name in BACKBONES if name.startswith(("mvit", "swin3d"))),
        "transformers, whose graphs take half a minute",
    ),
    "slowfast_r50": "in test_export.py",
    **dict.fromkeys(("c2d_r50", "slow_r50"), "i3d_r50 by the same builder, with fewer temporal kernels and pools"),
    "tiny_c2d": "tiny without temporal kernels",
    **dict.fromkeys(("r3d_18", "mc3_18"), "r2plus1d_18 with one convolution in place of two"),
    **dict.fromkeys(("x3d_s", "x3d_m", "x3d_l"), "x3d_xs for larger clips, and deeper"),
    "csn_r101": "depthwise convolutions, as in x3d_xs",
    **dict.fromkeys((name for name in BACKBONES if re.match("(c2d|i3d|slow|slowfast.*)_r101", name)), "r50, deeper"),
}
"""Backbones that are not traced here, and why."""


def apart(network: nn.Module, module: nn.Module, *size: int) -> float:
    clips = torch.randn(size[0], 3, *size[1:])
    with torch.no_grad():
        expected, given = network(clips), module(clips)
    return float((expected - given).abs().max() / expected.abs().max())


def from_file(traced: Traced, path: Path) -> nn.Module:
    """The graph as it is read from its archive, which must hold nothing that reading refuses."""
    write_pt2(traced.program, "{}", path)
    return read_pt2(path)[0].module(check_guards=False)


class StemAndBlock(nn.Module):
    """The least network that a block can be in: what is around it takes most of the time to trace."""

    def __init__(self, block: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.clip = ClipSpec(num_frames=4, crop_px=32)
        self.config = {"backbone": block}
        self.stem = nn.Conv3d(3, 16, (3, 8, 4), stride=(1, 8, 4), padding=(1, 0, 0))  # 4 x 8 positions in a frame
        self.block = layers.blocks.awake(INSERTED[block](16, **options))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.block(self.stem(clips))


@pytest.mark.slow
@pytest.mark.parametrize(("block", "options", "any_length"), BLOCKS)
def test_every_block_has_a_graph_that_is_right_at_other_sizes(
    block: str, options: dict[str, Any], any_length: bool, tmp_path: Path
) -> None:
    network = StemAndBlock(block, options).eval()
    traced = trace(network)
    module = from_file(traced, tmp_path / "a.pt2")
    assert (traced.any_batch, traced.any_length) == (True, any_length)
    for size in ((1, 4), (5, 4), *(((2, 3), (1, 9)) if any_length else ())):
        assert apart(network, module, *size, 32, 32) < 1e-5
    assert apart(network, network.stem, 2, 4, 32, 32) > 1e-3  # the block has its part in the output


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in OTHERS])
def test_every_kind_of_backbone_has_a_graph(name: str, tmp_path: Path) -> None:
    clip = {
        "s3d": {"num_frames": 16, "crop_px": 64},
    }.get(name, {"num_frames": 8, "crop_px": 32})
    options = {"width": 8} if name == "i3d_r50" else {}
    network = awake(backbone=name, insert=None, backbone_options=options, clip=clip)
    without_repeats(network, keep_later=1)
    traced = trace(network)
    module = from_file(traced, tmp_path / "a.pt2")
    assert traced.any_batch
    assert apart(network, module, 3, clip["num_frames"], clip["crop_px"], clip["crop_px"]) < 1e-4


@pytest.mark.slow
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


@pytest.mark.parametrize("disabled", [True, False])
def test_shape_checks_are_off_only_while_tracing(disabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", disabled)
    with suppress(KeyError), without_shape_checks():
        assert jaxtyping.config.jaxtyping_disable is True
        raise KeyError
    assert jaxtyping.config.jaxtyping_disable is disabled
