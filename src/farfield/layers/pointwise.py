"""1x1x1 convolution as a matrix product: one row of channels per position, times W^T.

Attention needs one row per position, and the product gives rows for both channels_last and contiguous input. On some
CPUs the product is several times faster than PyTorch's convolution of a contiguous tensor, on others equally fast
(`scripts/benchmark_layers.py --only PointwiseConv3d`). The classes are subclasses of PyTorch's convolutions, so state
dicts, fusing with a batch norm and forward hooks work as usual.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.matrix_product import fast_samples, product
from farfield.layers.positions import from_rows, split_samples, stack_samples, to_rows
from farfield.layers.positions import memory_format as memory_format_of
from farfield.layers.torch_private import ConvBase


class _PointwiseConv(ConvBase):
    """Convolution with kernel size 1, (b c *positions) -> (b c2 *positions), as a matrix product.

    The output of the 1D convolution is contiguous. The output of the 2D and 3D convolutions is in channels_last memory
    (one row of channels per position), unless `forward` is called with memory_format=torch.contiguous_format.

    Args:
        in_channels: c.
        out_channels: c2.
        bias: add a learned bias.
        groups: number of separate channel groups.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True, groups: int = 1) -> None:
        # The next class in the MRO is nn.Conv1d, 2d or 3d, which passes the arguments that _ConvNd needs.
        convolution: Any = super().__init__
        convolution(in_channels, out_channels, kernel_size=1, bias=bias, groups=groups)

    def forward(
        self, x: Float[Tensor, "b c *positions"], *, memory_format: torch.memory_format = torch.channels_last
    ) -> Float[Tensor, "b c2 *positions"]:
        """Convolve. `memory_format` is the output's memory format: channels_last (2D or 3D) or contiguous."""
        return pointwise(x, self.weight.flatten(1), self.bias, groups=self.groups, memory_format=memory_format)


def pointwise(
    x: Float[Tensor, "b c *positions"],
    weight: Float[Tensor, "c2 c_per_group"],
    bias: Float[Tensor, " c2"] | None = None,
    *,
    groups: int = 1,
    memory_format: torch.memory_format = torch.channels_last,
) -> Float[Tensor, "b c2 *positions"]:
    """Compute W x + b at every position.

    Args:
        x: features, in any memory format.
        weight: one row per output channel.
        bias: one value per output channel.
        groups: number of separate channel groups.
        memory_format: memory format of the output: channels_last (2D or 3D) or contiguous.
    """
    if groups == 1 and x.ndim > 3 and fast_samples(x, weight, width=len(weight)):
        by_columns = memory_format == torch.contiguous_format
        samples = [product(rows, weight.mT, bias, columns=by_columns) for rows in split_samples(to_rows(x))]
        return from_rows(stack_samples(samples), x.shape[2:])
    if groups == 1 and memory_format == torch.contiguous_format:
        filters, columns = weight.expand(len(x), -1, -1), x.flatten(2)
        y = filters @ columns if bias is None else torch.baddbmm(bias.view(1, -1, 1), filters, columns)
        return y.unflatten(2, x.shape[2:])
    rows = x.movedim(1, -1)
    if groups == 1:
        y = F.linear(rows, weight, bias)
    else:
        grouped = rows.unflatten(-1, (groups, -1)).unsqueeze(-2)  # b *positions groups 1 c/groups
        y = (grouped @ weight.unflatten(0, (groups, -1)).mT).flatten(-3)
        y = y if bias is None else y + bias.to(y.dtype)
    y = y.movedim(-1, 1)
    wants_copy = memory_format == torch.contiguous_format or y.ndim == 3  # there is no channels_last for one axis
    return y.contiguous() if wants_copy else y


def project(
    conv: nn.Module, x: Float[Tensor, "b c *positions"], *, memory_format: torch.memory_format
) -> Float[Tensor, "b c2 *positions"]:
    """Apply a block's pointwise convolution, with its output in `memory_format`.

    A module that replaces the convolution, such as a quantised convolution or an adapter, chooses the format itself.
    """
    y: Tensor = conv(x, memory_format=memory_format) if isinstance(conv, _PointwiseConv) else conv(x)
    return y


def suited_format(x: Float[Tensor, "b c *positions"], channels: int) -> torch.memory_format:
    """Return the memory format for the output of a pointwise convolution of x with `channels` output channels.

    If oneDNN computes the convolution (see `fast_samples`), the result is the format of x, so that later sums do not
    mix two formats. oneDNN is fast for both. Otherwise the result is channels_last, which fused attention needs.
    """
    if x.ndim > 3 and fast_samples(x, width=channels):
        return memory_format_of(x)
    return torch.channels_last


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
"""Pointwise convolution classes by the number of position axes."""
