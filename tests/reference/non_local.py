"""Eq. 1 to 6 of Wang et al., CVPR 2018, as loops in float64: one position, one key, one head at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from farfield.layers.non_local import _NonLocalBlock

Position = tuple[int, ...]


def positions(size: Sequence[int]) -> list[Position]:
    return list(itertools.product(*map(range, size)))


def dense(conv: nn.Module) -> Tensor:
    """The weight of a grouped 1x1 convolution as one (out, in) matrix, zero between groups."""
    weight = conv.weight.flatten(1)
    out, per_group = weight.shape
    full = torch.zeros(out, conv.in_channels, dtype=weight.dtype)
    for row in range(out):
        group = row // (out // conv.groups)
        full[row, group * per_group : (group + 1) * per_group] = weight[row]
    return full


def project(x: Tensor, conv: nn.Module | None) -> Tensor:
    """W x + b at each position of (c *size)."""
    if conv is None:
        return x
    y = torch.zeros(conv.out_channels, *x.shape[1:], dtype=x.dtype)
    for i in positions(x.shape[1:]):
        y[(slice(None), *i)] = dense(conv) @ x[(slice(None), *i)]
        if conv.bias is not None:
            y[(slice(None), *i)] += conv.bias
    return y


def pooled(x: Tensor, window: Sequence[int] | None) -> Tensor:
    """Max over windows; positions that fill no window are left out."""
    if window is None:
        return x
    out = torch.empty(len(x), *(s // k for s, k in zip(x.shape[1:], window, strict=True)), dtype=x.dtype)
    for i in positions(out.shape[1:]):
        cells = [slice(n * k, (n + 1) * k) for n, k in zip(i, window, strict=True)]
        for channel in range(len(x)):
            out[(channel, *i)] = max(x[(channel, *cells)].flatten().tolist())
    return out


def sees(i: Position, j: Position, scope: str) -> bool:
    return scope == "spacetime" or (scope == "space" and i[0] == j[0]) or (scope == "time" and i[1:] == j[1:])


def non_local_loops(x: Tensor, block: _NonLocalBlock, *, scale: float) -> tuple[Tensor, Tensor]:
    """W_z y for one clip (c *size) before norm and residual, and the weights f / C as (heads, *size, *key size)."""
    before, after = (None, block.key_pool) if block.pool_after_projection else (block.key_pool, None)
    keys = pooled(x, before)
    theta, phi, g = (
        project(x, block.theta),
        pooled(project(keys, block.phi), after),
        pooled(project(keys, block.g), after),
    )
    heads = block.heads
    size, key_size = x.shape[1:], g.shape[1:]
    weights = torch.zeros(heads, *size, *key_size, dtype=x.dtype)
    y = torch.zeros(len(g), *size, dtype=x.dtype)
    for head, i in itertools.product(range(heads), positions(size)):
        part = slice(head * len(theta) // heads, (head + 1) * len(theta) // heads)
        values = slice(head * len(g) // heads, (head + 1) * len(g) // heads)
        query = theta[(part, *i)]
        seen = [j for j in positions(key_size) if sees(i, j, block.scope)]
        f = {}
        for j in seen:
            key = phi[(part, *j)]
            affinity = scale * sum(a * b for a, b in zip(query.tolist(), key.tolist(), strict=True))
            if block.pairwise == "concatenation":
                f[j] = max(0.0, float(block.w_f[head] @ torch.cat([query, key])))
            elif block.pairwise == "dot_product":
                f[j] = affinity
            else:
                f[j] = math.exp(affinity)
        c = sum(f.values()) if "gaussian" in block.pairwise else len(seen)
        for j in seen:
            weights[(head, *i, *j)] = f[j] / c
            y[(values, *i)] += f[j] / c * g[(values, *j)]
    return project(y, block.w_z), weights
