"""1x1x1 convolution as the matrix product that it is: every position's row times W^T.

Attention wants positions as rows, and the product gives rows, from channels_last and contiguous memory alike. On some
CPUs it is also several times faster than PyTorch's convolution of a contiguous tensor, on others alike
(`scripts/benchmark_layers.py --only PointwiseConv3d`). The classes are PyTorch's convolutions to whatever asks: state
dict, fusing with a batch norm, forward hooks.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class _PointwiseConv(nn.modules.conv._ConvNd):
    """A convolution with kernel size 1, from (b c *positions) to (b c2 *positions) in channels_last memory.

    Args:
        in_channels: c.
        out_channels: c2.
        bias: add a learned bias.
        groups: channel groups that don't see each other.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True, groups: int = 1) -> None:
        # The next class in line is nn.Conv1d, 2d or 3d, which adds the axes that _ConvNd asks for.
        convolution: Any = super().__init__
        convolution(in_channels, out_channels, kernel_size=1, bias=bias, groups=groups)

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c2 *positions"]:
        rows = x.movedim(1, -1)
        weight = self.weight.flatten(1)
        if self.groups == 1:
            y = F.linear(rows, weight, self.bias)
        else:
            grouped = rows.unflatten(-1, (self.groups, -1)).unsqueeze(-2)  # b *positions groups 1 c/groups
            y = (grouped @ weight.unflatten(0, (self.groups, -1)).mT).flatten(-3)
            y = y if self.bias is None else y + self.bias
        y = y.movedim(-1, 1)
        return y.contiguous() if y.ndim == 3 else y  # PyTorch has no channels_last with one axis


class PointwiseConv1d(_PointwiseConv, nn.Conv1d):
    __doc__ = _PointwiseConv.__doc__ or ""


class PointwiseConv2d(_PointwiseConv, nn.Conv2d):
    __doc__ = _PointwiseConv.__doc__ or ""


class PointwiseConv3d(_PointwiseConv, nn.Conv3d):
    __doc__ = _PointwiseConv.__doc__ or ""


POINTWISE_CONV: dict[int, type[PointwiseConv1d] | type[PointwiseConv2d] | type[PointwiseConv3d]] = {
    1: PointwiseConv1d,
    2: PointwiseConv2d,
    3: PointwiseConv3d,
}
"""By the number of position axes."""
