"""Convolution as unfold and matrix product, and fold for its gradient.

Chellapilla, Puri, Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006; the im2col of
Caffe (Jia et al., 2014). Each of the L output positions has a window of Cin*kt*kh*kw values. With the windows
as columns, the convolution is one matrix product:

    unfold(x):  (b, Cin*kt*kh*kw, L)
    weight:     (Cout, Cin*kt*kh*kw)
    y = weight @ unfold(x):  (b, Cout, L)

`fold` is the transpose of `unfold`: it adds every window's values to the positions that they came from. So
fold(weight^T @ dy) is the convolution's gradient with respect to x, and fold(unfold(x)) is x times the number of
windows at each position.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.positions import like_memory
from farfield.layers.torch_private import ConvBase, resolved_padding


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Return the number of windows along each axis: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.

    Raises:
        ValueError: if no window fits.
    """
    windows = tuple(
        (s + 2 * p - d * (k - 1) - 1) // st + 1
        for s, k, st, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(windows) < 1:
        raise ValueError(
            f"no window of {tuple(kernel)} (dilation {tuple(dilation)}) fits into {tuple(size)} "
            f"with padding {tuple(padding)}. Give a larger input or a smaller kernel."
        )
    return windows


def unfold(
    x: Float[Tensor, "b c *size"],
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> Float[Tensor, "b c_kernel windows"]:
    """Return the windows of x as columns, for any number of axes (`F.unfold` takes only two).

    Args:
        x: input (b, c, then the axes to slide over).
        kernel_size: window size, one per axis or one for all axes.
        stride: distance between neighbouring windows, in positions.
        padding: zeros added at both ends.
        dilation: distance between neighbouring values of a window, in positions.

    Returns:
        Columns (b, c * number of kernel values, number of windows). A column's values are ordered by channel and then
        by the kernel's axes, like a flattened convolution weight. Windows are ordered like x's flattened positions.

    Raises:
        ValueError: if no window fits, or an argument is a sequence whose length is not the number of position axes.
    """
    axes = x.ndim - 2
    kernel, stride, padding, dilation = (_per_axis(v, axes) for v in (kernel_size, stride, padding, dilation))
    windows_per_axis = output_size(x.shape[2:], kernel, stride, padding, dilation)
    x = F.pad(x, [p for axis_padding in reversed(padding) for p in (axis_padding, axis_padding)])
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]  # windows along this axis; their values become the last axis
    windows = range(2, 2 + axes)
    x = x.permute(0, 1, *(2 + axes + axis for axis in range(axes)), *windows)  # b c kernel... windows...
    return x.reshape(x.shape[0], x.shape[1] * math.prod(kernel), math.prod(windows_per_axis))


def fold(
    columns: Float[Tensor, "b c_kernel windows"],
    size: Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> Float[Tensor, "b c *size"]:
    """Add every window's values to the positions that `unfold` took them from.

    This is the transpose of `unfold`, not its inverse.

    Args:
        columns: columns in the order of `unfold`.
        size: size of the output's position axes.
        kernel_size: window size, as in `unfold`.
        stride: distance between neighbouring windows, as in `unfold`.
        padding: zeros added at both ends, as in `unfold`.
        dilation: distance between neighbouring values of a window, as in `unfold`.

    Raises:
        ValueError: if the columns do not have the shape that `unfold` returns for this size and these windows.
    """
    axes = len(size)
    kernel, stride, padding, dilation = (_per_axis(v, axes) for v in (kernel_size, stride, padding, dilation))
    windows = output_size(size, kernel, stride, padding, dilation)
    if columns.shape[1] % math.prod(kernel) or columns.shape[2] != math.prod(windows):
        raise ValueError(
            f"an output of size {tuple(size)} has {windows} windows of {tuple(kernel)}, so fold needs columns of "
            f"(b, c * {math.prod(kernel)}, {math.prod(windows)}); given {tuple(columns.shape)}."
        )
    values = columns.unflatten(2, windows).unflatten(1, (-1, *kernel))  # b c kernel... windows...
    values = values.movedim(tuple(range(2, 2 + axes)), tuple(range(axes)))  # kernel... b c windows...
    padded = columns.new_zeros(*values.shape[axes : axes + 2], *(s + 2 * p for s, p in zip(size, padding, strict=True)))
    for offset in itertools.product(*map(range, kernel)):
        # One value of each window: their positions form a strided slice.
        place: list[Any] = [slice(None), slice(None)]
        for o, d, n, s in zip(offset, dilation, windows, stride, strict=True):
            place.append(slice(o * d, o * d + (n - 1) * s + 1, s))
        padded[tuple(place)] += values[offset]
    inside: list[Any] = [slice(p, p + s) for p, s in zip(padding, size, strict=True)]
    return padded[(..., *inside)]


def unfold_conv(
    x: Float[Tensor, "b c *size"],
    weight: Float[Tensor, "c2 c_per_group *kernel"],
    bias: Float[Tensor, " c2"] | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Float[Tensor, "b c2 *windows"]:
    """Compute a convolution of x as a matrix product, (Cout, Cin*kt*kh*kw) @ (Cin*kt*kh*kw, positions).

    The result agrees with `F.conv2d` and `F.conv3d`. This function is meant only for reading and benchmarks, because
    the columns take up to about kt*kh*kw times the memory of x.

    Args:
        x: input (b, c, then the axes to slide over).
        weight: weight in PyTorch's layout, (Cout, Cin / groups, kernel...).
        bias: one value per output channel.
        stride: distance between neighbouring windows, in positions.
        padding: zeros added at both ends.
        dilation: distance between neighbouring values of a window, in positions.
        groups: number of channel groups, each with a separate product.

    Raises:
        ValueError: if no window fits, or x, weight and groups do not match.
    """
    axes = x.ndim - 2
    if weight.ndim != x.ndim or x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"a weight of shape {tuple(weight.shape)} with groups={groups} needs x with {weight.shape[1] * groups} "
            f"channels and {weight.ndim - 2} axes after the channels; given x of shape {tuple(x.shape)}."
        )
    if weight.shape[0] % groups:
        raise ValueError(
            f"a weight of shape {tuple(weight.shape)} has {weight.shape[0]} output channels, which groups={groups} "
            "does not divide. Give a number of groups that divides them."
        )
    kernel = tuple(weight.shape[2:])
    columns = unfold(x, kernel, stride=stride, padding=padding, dilation=dilation)
    filters = weight.flatten(1)
    if groups == 1:
        y = filters.expand(len(x), -1, -1) @ columns
    else:
        y = (filters.unflatten(0, (groups, -1)) @ columns.unflatten(1, (groups, -1))).flatten(1, 2)
    if bias is not None:
        y = y + bias.to(y.dtype).unsqueeze(1)
    windows = output_size(x.shape[2:], kernel, *(_per_axis(v, axes) for v in (stride, padding, dilation)))
    return y.unflatten(2, windows)


class _UnfoldConv(ConvBase):
    """{name} computed by `unfold_conv`. Arguments, parameters and results are the same, but x needs a batch axis."""

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c2 *windows"]:
        # PyTorch's resolved padding for F.pad, last axis first. It includes "same" and other padding modes.
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        padded = F.pad(x, resolved_padding(self), mode=mode)
        y = unfold_conv(padded, self.weight, self.bias, stride=self.stride, dilation=self.dilation, groups=self.groups)
        return like_memory(y, x)


class UnfoldConv2d(_UnfoldConv, nn.Conv2d):
    __doc__ = (_UnfoldConv.__doc__ or "").format(name="`nn.Conv2d`")


class UnfoldConv3d(_UnfoldConv, nn.Conv3d):
    __doc__ = (_UnfoldConv.__doc__ or "").format(name="`nn.Conv3d`")


def _per_axis(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ValueError(
            f"kernel_size, stride, padding or dilation is {value} for {axes} axes; give one value per axis, or a "
            "single number for all axes."
        )
    return values
