"""The part of a network that computes each frame by itself is found, and counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from farfield import build_model
from farfield.layers import BatchNorm3d
from farfield.models.backbones import BACKBONES
from farfield.models.frame_level_costs import LevelCosts, count_levels
from farfield.models.frame_levels import find_levels, frame_levels
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet, assemble
from farfield.models.network_options import NetworkOptions
from farfield.models.structure_only import structure_only
from farfield.models.summary import summarise

WITH_LEVELS = {"c2d_r50", "c2d_r101", "slow_r50", "slow_r101", "tiny_c2d", "c2d_efficientnet_lite0"}
SLIDING = np.arange(500)[:, None]
"""Starts of windows, in sampled frames."""


def network(backbone: str, *, insert: str | None = None, **options: Any) -> ActionNet:
    return build_model(
        backbone, num_classes=3, insert=insert, clip={"num_frames": 8, "crop_px": 32}, backbone_options=options
    )


def names(made: ActionNet) -> list[list[str]]:
    """Return the names of each level's layers in the trunk."""
    levels = find_levels(made)
    known = {module: name for name, module in made.backbone.trunk.named_modules()}
    return [] if levels is None else [[known[layer] for layer in level.layers] for level in levels.levels]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_which_backbones_have_levels(backbone: str) -> None:
    with structure_only():
        made = assemble(NetworkOptions(backbone, num_classes=3))
    assert (find_levels(made) is not None) == (backbone in WITH_LEVELS)


def test_levels_end_where_frames_mix() -> None:
    res2, res3 = ([f"blocks.{i}.res_blocks.{k}" for k in range(n)] for i, n in ((1, 3), (2, 4)))
    assert names(network("slow_r50", width=8)) == [["blocks.0", *res2, *res3]]
    late = network("slow_r50", width=8, temporal_kernels=[[1], [3], [1], [1]])
    assert names(late) == [["blocks.0", *res2]]
    within = network("slow_r50", width=8, insert="nl5")  # the first block is after res3[1]
    assert names(within) == [["blocks.0", *res2, "blocks.2.res_blocks.0", "blocks.2.res_blocks.1.residual"]]
    first, second = names(network("c2d_r50", width=8))
    assert first == ["blocks.0", *res2]
    assert second[0] == "blocks.2"  # the pooling
    assert second[-1] == "blocks.5.res_blocks.2"
    at_pool = network("c2d_r50", width=8, insert={"res2": [2]})
    assert names(at_pool) == [["blocks.0", *res2[:2], "blocks.1.res_blocks.2.residual"]]
    assert names(network("c2d_r50", width=8, stem_temporal_strides=(2, 1))) == []
    unpooled = names(network("c2d_r50", width=8, temporal_pool=False))
    assert [len(level) for level in unpooled] == [17]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c2d_r50", "slow_r50"])
def test_folded_networks_have_the_same_levels(name: str) -> None:
    made = network(name, insert="nl5", width=8)
    for dtype in (torch.float32, torch.bfloat16):
        folded = optimize_for_inference(made, dtype)
        assert names(folded) == names(made)
        assert frame_levels(folded) == find_levels(folded)


class _Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def _mixing_sum(x: Tensor, y: Tensor) -> Tensor:
    return x + y + 0.0 * x.mean(2, keepdim=True)


@pytest.mark.slow
def test_a_forward_pass_finds_what_the_layers_do_not_show() -> None:
    fusions: list[Any] = []
    for fusion in (torch.add, _mixing_sum, _Sum()):
        made = network("slow_r50", width=8)
        block: Any = made.backbone.blocks("res2")[0]
        block.branch_fusion = fusion
        made = optimize_for_inference(made)
        fusions.append((find_levels(made) is not None, frame_levels(made) is not None))
    # Frames that are mixed with weight 0 are found, since 0 times NaN is NaN. An unknown layer counts as mixing.
    assert fusions == [(True, True), (True, False), (False, False)]


def test_norms_without_running_statistics_mix_frames() -> None:
    made = network("slow_r50", width=8)
    stem: Any = made.backbone.trunk.get_submodule("blocks.0")
    stem.norm = BatchNorm3d(8, track_running_stats=False)
    assert find_levels(made) is None


@pytest.mark.slow
def test_hooks_and_compilation_need_every_frame() -> None:
    made = network("tiny_c2d")
    hook = made.backbone.trunk.register_forward_hook(lambda *_: None)
    assert find_levels(made) is None
    hook.remove()
    assert find_levels(made) is not None
    made.compile()
    assert find_levels(made) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "insert", "shares", "times"),
    [
        # Multiply-adds of stem, res2 and res3, and of what follows the pooling: shares of one clip of 224 x 224.
        ("slow_r50", None, [0.349], {1: 1.44, 2: 1.35, 4: 1.21, 8: 1.0}),
        ("c2d_r50", None, [0.325, 0.675], {1: 4.75, 2: 3.99, 4: 2.0, 8: 1.0}),
        ("c2d_r50", "nl5", [0.229, 0.086], {1: 1.36, 2: 1.31, 4: 1.19, 8: 1.0}),
    ],
)
def test_what_sharing_saves(backbone: str, insert: str | None, shares: list[float], times: dict[int, float]) -> None:
    with structure_only():
        made = assemble(NetworkOptions(backbone, num_classes=400, insert=insert))
    costs = count_levels(made)
    assert costs is not None
    assert costs.total == summarise(made).multiply_adds
    assert costs.shares == pytest.approx(shares, abs=5e-4)
    for hop, expected in times.items():
        assert costs.times_faster(SLIDING * hop + np.arange(8)) == pytest.approx(expected, rel=1e-2)


def test_shared_groups_are_counted_by_their_frames() -> None:
    costs = LevelCosts(spans=(1, 2), of_maps=(10, 100), maps=(4, 2), rest=60)
    assert costs.total == 300
    frames = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [3, 4, 5, 6]])
    # Seven frames; the pairs 01, 23, 45, 34 and 56.
    assert costs.times_faster(frames) == pytest.approx(3 * 300 / (7 * 10 + 5 * 100 + 3 * 60))
    assert count_levels(network("tiny")) is None
