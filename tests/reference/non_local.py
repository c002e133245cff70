"""Eq. 1 to 6 of Wang et al., CVPR 2018, as loops in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from farfield.layers import NonLocalBlock3d


def project(x: Tensor, conv: nn.Conv3d, position: tuple[int, int, int]) -> Tensor:
    t, h, w = position
    weight = conv.weight[:, :, 0, 0, 0]
    return weight @ x[:, t, h, w] + conv.bias


def pooled(x: Tensor, window: tuple[int, int, int]) -> Tensor:
    """Max over windows; positions that fill no window are left out."""
    c, t, h, w = x.shape
    kt, kh, kw = window
    out = torch.empty(c, t // kt, h // kh, w // kw, dtype=x.dtype)
    for i in range(t // kt):
        for j in range(h // kh):
            for k in range(w // kw):
                for channel in range(c):
                    cells = x[channel, i * kt : (i + 1) * kt, j * kh : (j + 1) * kh, k * kw : (k + 1) * kw]
                    out[channel, i, j, k] = max(cells.flatten().tolist())
    return out


def positions(x: Tensor) -> list[tuple[int, int, int]]:
    _, t, h, w = x.shape
    return [(i, j, k) for i in range(t) for j in range(h) for k in range(w)]


def embedded_gaussian_block(x: Tensor, block: NonLocalBlock3d, *, scale: float) -> Tensor:
    """W_z y for one clip (c t h w), before the norm and the residual: f = exp(scale theta_i . phi_j), normalised."""
    keys = x if block.key_pool is None else pooled(x, block.key_pool)
    out = torch.zeros_like(x)
    for i in positions(x):
        theta = project(x, block.theta, i)
        f = []
        g = []
        for j in positions(keys):
            phi = project(keys, block.phi, j)
            f.append(math.exp(scale * sum(a * b for a, b in zip(theta.tolist(), phi.tolist(), strict=True))))
            g.append(project(keys, block.g, j))
        y = sum(weight * value for weight, value in zip(f, g, strict=True)) / sum(f)
        out[:, i[0], i[1], i[2]] = block.w_z.weight[:, :, 0, 0, 0] @ y + block.w_z.bias
    return out
