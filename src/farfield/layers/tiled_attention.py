"""Softmax attention for queries and values of different widths on a CPU, by tiles of queries.

PyTorch's fused CPU kernel needs the same width for queries, keys and values. Padding with zeros would double the work
for widths of C/8 and C, as in self-attention and DANet. Here only one tile of rows of the n x m matrix is in memory at
a time, and the backward pass recomputes it (Dao et al., "FlashAttention", NeurIPS 2022, section 3.1):

    P = softmax(scale Q K^T),  O = P V
    dV = P^T dO,   dS = P * (dO V^T - rowsum(dO * O)),     dQ = scale dS K,   dK = scale dS^T Q
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from farfield.layers.positions import at_least_float32, no_autocast

TILE = 2**21
"""Number of matrix entries in memory at a time: 8 MiB in float32."""


def tiled_attention(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b m d"], value: Float[Tensor, "b m e"], *, scale: float
) -> Float[Tensor, "b n e"]:
    """Compute softmax(scale query key^T) value in float32 or float64, and return it in the dtype of `value`.

    The result can be differentiated once, but not twice.
    """
    inputs = (at_least_float32(part) for part in (query, key, value))
    return _TiledAttention.apply(*inputs, scale).to(value.dtype)


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        with no_autocast(query):
            tiles = query.split(_tile(key), dim=1)
            output = torch.cat([_weights(q, key, scale) @ value for q in tiles], 1)
        ctx.save_for_backward(query, key, value, output)
        ctx.scale = scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, output = ctx.saved_tensors
        with no_autocast(query):
            d_key, d_value, d_queries = torch.zeros_like(key), torch.zeros_like(value), []
            inner = (grad * output).sum(-1, keepdim=True)
            size = _tile(key)
            for q, do, i in zip(*(part.split(size, dim=1) for part in (query, grad, inner)), strict=True):
                p = _weights(q, key, ctx.scale)
                d_value += p.mT @ do
                ds = (do @ value.mT - i) * p
                d_queries.append(ds @ key)
                d_key += ds.mT @ q
            return torch.cat(d_queries, 1) * ctx.scale, d_key * ctx.scale, d_value, None


def _weights(query: Float[Tensor, "b tile d"], key: Float[Tensor, "b m d"], scale: float) -> Float[Tensor, "b tile m"]:
    return ((query * scale) @ key.mT).softmax(-1)


def _tile(key: Tensor) -> int:
    return max(1, TILE // max(1, key.shape[0] * key.shape[1]))
