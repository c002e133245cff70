"""Softmax attention on a CPU by matrix products: for all queries at once, or for one tile of queries after the other.

PyTorch's fused CPU kernel needs the same width for queries, keys and values. In self-attention and DANet, queries and
keys have width C/8 and values have width C, so padding with zeros would nearly double the work. The fused kernel
also multiplies with MKL, which is slower than oneDNN on some processors (see `matrix_product.py`).

The attention weights form an n x m matrix P with one row per query. `explicit_attention` computes all of P, and keeps
it for the backward pass. `tiled_attention` has only the rows of one tile of queries in memory at a time, and its
backward pass recomputes them (Dao et al., "FlashAttention", NeurIPS 2022, section 3.1). `attention_choice` chooses
between these two and the fused kernel. With * as the elementwise product, the result and the gradients are

    P = softmax(scale Q K^T),  O = P V
    dV = P^T dO,   dS = P * (dO V^T - rowsum(dO * O)),     dQ = scale dS K,   dK = scale dS^T Q
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from farfield.layers.matrix_product import fast_samples, product
from farfield.layers.positions import at_least_float32, by_columns, no_autocast, split_samples, stack_samples

TILE = 2**21
"""Maximum number of attention weights in a tile: 8 MiB in float32. A tile of a single query may have more."""


def explicit_attention(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b m d"], value: Float[Tensor, "b m e"], *, scale: float
) -> Float[Tensor, "b n e"]:
    """Compute softmax(scale query key^T) value, with all n x m weights in memory at once.

    The result can be differentiated any number of times.
    """
    if _one_by_one(query, key, value):
        samples = zip(*(split_samples(part) for part in (query, key * scale, value)), strict=True)
        return stack_samples([_explicit(*sample) for sample in samples])
    return _explicit(query, key * scale, value)


def tiled_attention(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b m d"], value: Float[Tensor, "b m e"], *, scale: float
) -> Float[Tensor, "b n e"]:
    """Compute softmax(scale query key^T) value for one tile of queries after the other.

    Half-precision inputs are converted to float32 for the computation. The result has the dtype of `value`. It can be
    differentiated once, but not twice.
    """
    inputs = [at_least_float32(part) for part in (query, key, value)]
    if _one_by_one(*inputs):
        samples = zip(*(split_samples(part) for part in inputs), strict=True)
        y = stack_samples([_TiledAttention.apply(*sample, scale) for sample in samples])
    else:
        y = _TiledAttention.apply(*inputs, scale)
    return y.to(value.dtype)


class _TiledAttention(torch.autograd.Function):
    """Autograd function of `tiled_attention`, for a batch (b n d) or one sample (n d)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        with no_autocast(query):
            tiles = query.split(_tile(key), dim=-2)
            output = _join([_times(_weights(q, key, scale), value, columns=by_columns(query)) for q in tiles])
        ctx.save_for_backward(query, key, value, output)
        ctx.scale = scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, output = ctx.saved_tensors
        with no_autocast(query):
            d_queries: list[Tensor] = []
            # The sums start as numbers: a batch of gradients (`is_grads_batched`) cannot be added to zeros in place.
            d_key: Any = 0
            d_value: Any = 0
            inner = (grad * output).sum(-1, keepdim=True)
            size = _tile(key)
            for q, do, i in zip(*(part.split(size, dim=-2) for part in (query, grad, inner)), strict=True):
                p = _weights(q, key, ctx.scale)
                d_value += _times(p.mT, do, columns=by_columns(value))
                ds = _times(do, value.mT, columns=False).sub_(i).mul_(p)
                d_queries.append(_times(ds, key, columns=by_columns(query)))
                d_key += _times(ds.mT, q, columns=by_columns(key))
            return _join(d_queries) * ctx.scale, d_key * ctx.scale, d_value, None


def _explicit(
    query: Float[Tensor, "*b n d"], key: Float[Tensor, "*b m d"], value: Float[Tensor, "*b m e"]
) -> Float[Tensor, "*b n e"]:
    # Rows of the matrix are contiguous in any layout of the features, since a softmax over columns is slower.
    weights = _times(query, key.mT, columns=False).softmax(-1)
    return _times(weights, value, columns=by_columns(query))


def _weights(
    query: Float[Tensor, "*b tile d"], key: Float[Tensor, "*b m d"], scale: float
) -> Float[Tensor, "*b tile m"]:
    return _times(query * scale, key.mT, columns=False).softmax(-1)


def _times(a: Tensor, b: Tensor, *, columns: bool) -> Tensor:
    return product(a, b, columns=columns) if a.ndim == 2 else a @ b


def _one_by_one(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Return whether to compute one sample after the other with oneDNN, instead of the whole batch with MKL.

    oneDNN is often faster than MKL, but has no batched product.
    """
    return fast_samples(query, key, value, width=key.shape[1])


def _join(tiles: list[Tensor]) -> Tensor:
    """Concatenate tiles of rows, keeping the tiles' memory layout."""
    if len(tiles) == 1:
        return tiles[0]
    return torch.cat([y.mT for y in tiles], -1).mT if by_columns(tiles[0]) else torch.cat(tiles, -2)


def _tile(key: Tensor) -> int:
    return max(1, TILE // max(1, key[..., 0].numel()))
