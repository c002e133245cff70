"""Convert the positions of a clip to the rows of a matrix and back: (b c t h w) <-> (b n c), with n = t*h*w.

Rows are ordered by t, then h, then w. They are a view of the clip's tensor. For a tensor in channels_last memory, the
view is contiguous. For a contiguous tensor, the view's columns are contiguous instead of its rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def to_rows(x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b n c"]:
    """Return one row per position."""
    return x.flatten(2).transpose(1, 2)


def from_rows(rows: Float[Tensor, "b n c"], size: Sequence[int]) -> Float[Tensor, "b c *positions"]:
    """Convert rows back to positions of `size` (t, h, w); the inverse of `to_rows`.

    In a batch of one sample, PyTorch allows any stride for the batch axis. The result has the stride that the axis has
    in larger batches. With another stride, PyTorch's batch norm on the CPU silently reads a contiguous gradient in the
    wrong order (seen in torch 2.14).
    """
    if by_columns(rows):
        return rows.transpose(1, 2).unflatten(2, tuple(size))
    return rows.unflatten(1, tuple(size)).movedim(-1, 1)


def split_samples(rows: Float[Tensor, "b n c"]) -> list[Float[Tensor, "n c"]]:
    """Split a batch into one matrix per sample.

    In the backward pass, autograd stacks the gradients of the matrices directly in the memory layout of the batch, so
    that no further copy is needed.
    """
    return [y.mT for y in rows.mT.unbind()] if by_columns(rows) else list(rows.unbind())


def stack_samples(samples: Sequence[Float[Tensor, "n c"]]) -> Float[Tensor, "b n c"]:
    """Stack the matrices of samples into a batch.

    If the columns of the first matrix are contiguous in memory (see `by_columns`), those of the result are, too.
    """
    if len(samples) == 1:
        return samples[0].unsqueeze(0)
    return torch.stack([y.mT for y in samples]).mT if by_columns(samples[0]) else torch.stack(list(samples))


def by_columns(x: Float[Tensor, "*b n m"]) -> bool:
    """Check whether the columns of a matrix, but not its rows, are contiguous in memory."""
    return x.stride(-2) == 1 and x.stride(-1) != 1


def memory_format(x: Tensor) -> torch.memory_format:
    """Return the memory format of x: channels_last or channels_last_3d if x has it, else contiguous."""
    if x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d):
        return torch.channels_last_3d
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def like_memory(y: Float[Tensor, "b c *positions"], x: Tensor) -> Float[Tensor, "b c *positions"]:
    """Convert y to the memory format of x."""
    return y.contiguous(memory_format=memory_format(x))


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32; return other types unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_autocast(x: Tensor) -> torch.autocast:
    """Return a context manager that disables autocast on the device of x."""
    return torch.autocast("cpu" if x.device.type == "meta" else x.device.type, enabled=False)


def flat_index(queries: Int[Tensor, "q axes"], size: Sequence[int]) -> Int[Tensor, " q"]:
    """Convert coordinates (t, h, w) to row numbers of `to_rows`, for positions of `size` (t, h, w).

    Raises:
        ValueError: if queries is not a (q, axes) tensor of integers, or a coordinate lies outside of `size`.
    """
    if not isinstance(queries, Tensor) or queries.ndim != 2 or queries.is_floating_point() or queries.is_complex():
        is_tensor = isinstance(queries, Tensor)
        given = f"shape {tuple(queries.shape)} of {queries.dtype}" if is_tensor else type(queries).__name__
        raise ValueError(
            f"queries must be an integer tensor (q, {len(size)}), one row per position, e.g. "
            f"torch.tensor([[0, 3, 5]]); given {given}."
        )
    if queries.shape[1] != len(size):
        raise ValueError(
            f"each query needs {len(size)} coordinates, one per axis of {tuple(size)}; given {queries.shape[1]}."
        )
    limits = torch.tensor(size, device=queries.device)
    outside = ((queries < 0) | (queries >= limits)).any(1)
    if outside.any():
        raise ValueError(
            f"query {queries[outside][0].tolist()} lies outside of the input, whose size is {tuple(size)}. "
            "Coordinates count from 0."
        )
    strides = [math.prod(size[axis + 1 :]) for axis in range(len(size))]
    return (queries * torch.tensor(strides, device=queries.device)).sum(1)


def check_input(x: Tensor, channels: int, ndim: int, name: str) -> None:
    """Check that a layer's input is floating-point and has the axes and channels that the layer needs.

    Args:
        x: the input.
        channels: number of channels that the layer needs.
        ndim: number of position axes that the layer needs: 1 for b c n, 2 for b c h w, 3 for b c t h w.
        name: name of the layer, for messages.

    Raises:
        ValueError: if the input is not a floating-point tensor, or has the wrong axes or channels.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} needs a floating-point tensor; given {given}. Convert it with x.float().")
    if x.ndim != ndim + 2 or x.shape[1] != channels:
        axes = {1: "b c n", 2: "b c h w", 3: "b c t h w"}[ndim]
        raise ValueError(f"{name} needs ({axes}) with c = {channels}; given {tuple(x.shape)}.")


def check_sizes(channels: int, reduction: int, ndim: int) -> None:
    """Check the options that attention layers share: channels, reduction and ndim.

    Raises:
        ValueError: if channels or reduction is below 1, or ndim is neither 2 nor 3.
    """
    if channels < 1 or reduction < 1:
        raise ValueError(f"channels and reduction must be at least 1; given {channels} and {reduction}.")
    if ndim not in (2, 3):
        raise ValueError(f"ndim is the number of position axes: 3 for b c t h w, 2 for b c h w; given {ndim}.")
