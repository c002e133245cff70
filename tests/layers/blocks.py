"""Every block that can be inserted, by a name for the test's report, and parameters that matter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from farfield.layers import (
    BatchNorm2d,
    BatchNorm3d,
    CoordinateAttention,
    CrissCrossAttention,
    DualAttention,
    FrozenBatchNorm3d,
    GlobalAvgPool3d,
    NonLocalBlock2d,
    NonLocalBlock3d,
    ObjectContext,
    PointwiseConv3d,
    SelfAttention,
    SubBatchNorm3d,
    UnfoldConv2d,
    UnfoldConv3d,
)

BLOCKS: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
    "gaussian": (3, lambda c: NonLocalBlock3d(c, pairwise="gaussian")),
    "embedded_gaussian": (3, lambda c: NonLocalBlock3d(c)),
    "dot_product": (3, lambda c: NonLocalBlock3d(c, pairwise="dot_product", key_pool=None)),
    "concatenation": (3, lambda c: NonLocalBlock3d(c, pairwise="concatenation")),
    "concatenation_heads": (3, lambda c: NonLocalBlock3d(c, pairwise="concatenation", num_heads=2, key_pool=None)),
    "space": (3, lambda c: NonLocalBlock3d(c, scope="space")),
    "time": (3, lambda c: NonLocalBlock3d(c, scope="time")),
    "pool_after": (3, lambda c: NonLocalBlock3d(c, pool_after_projection=True)),
    "no_norm": (3, lambda c: NonLocalBlock3d(c, norm=False)),
    "groups": (3, lambda c: NonLocalBlock3d(c, groups=2)),
    "non_local_2d": (2, lambda c: NonLocalBlock2d(c)),
    "self_attention": (3, lambda c: SelfAttention(c)),
    "self_attention_2d": (2, lambda c: SelfAttention(c, ndim=2)),
    "self_attention_concatenation": (3, lambda c: SelfAttention(c, similarity="concatenation")),
    "self_attention_perceptron": (3, lambda c: SelfAttention(c, similarity="perceptron")),
    "dual_attention": (3, lambda c: DualAttention(c)),
    "dual_attention_2d": (2, lambda c: DualAttention(c, ndim=2)),
    "criss_cross": (3, lambda c: CrissCrossAttention(c)),
    "criss_cross_2d": (2, lambda c: CrissCrossAttention(c, ndim=2)),
    "coordinate": (3, lambda c: CoordinateAttention(c)),
    "coordinate_2d": (2, lambda c: CoordinateAttention(c, ndim=2)),
    "object_context": (3, lambda c: ObjectContext(c, 5)),
    "object_context_2d": (2, lambda c: ObjectContext(c, 5, ndim=2)),
}

OTHERS: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
    "batch_norm": (3, BatchNorm3d),
    "batch_norm_2d": (2, BatchNorm2d),
    "frozen_batch_norm": (3, FrozenBatchNorm3d),
    "sub_batch_norm": (3, lambda c: SubBatchNorm3d(c, 2)),
    "global_avg_pool": (3, lambda c: GlobalAvgPool3d()),
    "pointwise_conv": (3, lambda c: PointwiseConv3d(c, 6)),
    "unfold_conv": (3, lambda c: UnfoldConv3d(c, 6, 3, padding=1, groups=2)),
    "unfold_conv_2d": (2, lambda c: UnfoldConv2d(c, 6, 3, stride=2)),
}
"""The layers that are no blocks."""

SIZES = {2: (5, 7), 3: (3, 4, 5)}
"""Of small clips, by the number of position axes."""


def awake(block: nn.Module) -> nn.Module:
    """Gives every parameter and statistic a value that matters; at initialisation the block is the identity."""
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.5)
        for name, buffer in block.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.2)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return block
