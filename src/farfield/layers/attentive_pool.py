"""Attentive pooling: a learned query gathers the features of a clip by attention.

V-JEPA 2 (Assran et al., 2025, section 5) classifies the features of frozen encoders in this way: after three
transformer blocks over all positions, a learned query attends to all positions in a fourth block. The argument `depth`
is the number of all these blocks, 4 in V-JEPA 2.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.init import trunc_normal_, zeros_

INIT_STD = 0.02


class AttentivePool3d(nn.Module):
    """Pool features (b c t h w) to one vector (b c) per clip with a learned query.

    The attention has no position embeddings, so the result does not depend on the order of the positions.

    Args:
        channels: number of channels, c.
        num_heads: number of attention heads; `channels` must be a multiple of it.
        depth: number of transformer blocks, at least 1. In the last block the query attends to all positions; in the
            other blocks every position attends to all positions.
        mlp_ratio: width of the hidden layer of each block's MLP, relative to `channels`.
        norm_eps: number that layer norms add to the variance.

    Raises:
        TypeError: if `num_heads` or `depth` is not an integer, or if another argument is not a number.
        ValueError: if `channels` is not a multiple of `num_heads`, or another argument is out of range.
    """

    def __init__(
        self, channels: int, *, num_heads: int = 16, depth: int = 4, mlp_ratio: float = 4.0, norm_eps: float = 1e-6
    ) -> None:
        super().__init__()
        if type(num_heads) is not int or type(depth) is not int:
            raise TypeError(f"num_heads is {num_heads!r} and depth is {depth!r}; both must be integers")
        if num_heads < 1 or channels % num_heads:
            raise ValueError(
                f"num_heads is {num_heads} and the number of channels is {channels}; num_heads must be at least 1 and "
                "divide the number of channels"
            )
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        if not 1 <= channels * mlp_ratio < math.inf:
            raise ValueError(f"mlp_ratio is {mlp_ratio}; it must be finite, and at least 1 / {channels}")
        if not 0 < norm_eps < 1:
            raise ValueError(f"norm_eps is {norm_eps}; it must be above 0 and below 1")
        self.query = nn.Parameter(torch.empty(1, 1, channels))
        self.blocks = nn.ModuleList(_Block(channels, num_heads, mlp_ratio, norm_eps) for _ in range(depth - 1))
        self.last = _QueryBlock(channels, num_heads, mlp_ratio, norm_eps)
        self._init_weights()

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c"]:
        tokens = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.last(self.query.expand(len(x), -1, -1), tokens)[:, 0]

    def _init_weights(self) -> None:
        """Draw random weights as V-JEPA 2 does: output projections have smaller weights in deeper blocks."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=INIT_STD)
                zeros_(module.bias)
        trunc_normal_(self.query, std=INIT_STD)
        for place, block in enumerate(self.blocks, 1):
            assert isinstance(block, _Block)
            trunc_normal_(block.attention.project.weight, std=INIT_STD / place**0.5)
            trunc_normal_(block.mlp.out.weight, std=INIT_STD / place**0.5)
        trunc_normal_(self.last.mlp.out.weight, std=INIT_STD / (len(self.blocks) + 1) ** 0.5)


class _Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=norm_eps)
        self.attention = _SelfAttention(channels, num_heads)
        self.norm2 = nn.LayerNorm(channels, eps=norm_eps)
        self.mlp = _Mlp(channels, mlp_ratio)

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class _QueryBlock(nn.Module):
    """Transformer block in which queries attend to tokens, without an output projection or a norm of the queries."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float, norm_eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(channels, eps=norm_eps)
        self.to_query = nn.Linear(channels, channels)
        self.to_key = nn.Linear(channels, channels)
        self.to_value = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=norm_eps)
        self.mlp = _Mlp(channels, mlp_ratio)

    def forward(self, queries: Float[Tensor, "b m c"], tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        tokens = self.norm1(tokens)
        found = _attend(self.to_query(queries), self.to_key(tokens), self.to_value(tokens), self.num_heads)
        queries = queries + found
        return queries + self.mlp(self.norm2(queries))


class _SelfAttention(nn.Module):
    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_query = nn.Linear(channels, channels)
        self.to_key = nn.Linear(channels, channels)
        self.to_value = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return self.project(_attend(self.to_query(tokens), self.to_key(tokens), self.to_value(tokens), self.num_heads))


class _Mlp(nn.Module):
    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        self.inner = nn.Linear(channels, int(channels * ratio))
        self.out = nn.Linear(int(channels * ratio), channels)

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return self.out(F.gelu(self.inner(tokens)))


def _attend(
    queries: Float[Tensor, "b m c"], keys: Float[Tensor, "b n c"], values: Float[Tensor, "b n c"], num_heads: int
) -> Float[Tensor, "b m c"]:
    """Compute multi-head attention: softmax(q k^T / sqrt(c / heads)) v in each head."""
    q, k, v = (each.unflatten(-1, (num_heads, -1)).transpose(1, 2) for each in (queries, keys, values))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
