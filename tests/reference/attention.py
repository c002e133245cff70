"""The attention family of the segmentation papers as loops in float64, for one clip (c *size)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from farfield.layers import CoordinateAttention, CrissCrossAttention, ObjectContext, SelfAttention
from reference.non_local import positions, project


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in values]
    return [e / sum(exponentials) for e in exponentials]


def at(x: Tensor, i: tuple[int, ...]) -> Tensor:
    return x[(slice(None), *i)]


def attend(query: Tensor, keys: list[Tensor], values: list[Tensor], similarity: str, w: Tensor | None) -> Tensor:
    def s(key: Tensor) -> float:
        if similarity == "dot_product":
            return float(query @ key)
        if similarity == "concatenation":
            return max(0.0, float(w @ torch.cat([query, key])))
        return sum(float(c) * math.tanh(float(a) + float(b)) for a, b, c in zip(query, key, w, strict=True))

    weights = softmax([s(key) for key in keys])
    return sum((weight * value for weight, value in zip(weights, values, strict=True)), torch.zeros_like(values[0]))


def self_attention(x: Tensor, layer: SelfAttention, similarity: str = "dot_product") -> Tensor:
    """o of eq. 2 in Zhang et al., 2019, and P(x) of Fu et al., 2019."""
    query, key, value = project(x, layer.query), project(x, layer.key), project(x, layer.value)
    every = positions(x.shape[1:])
    o = torch.zeros_like(value)
    for i in every:
        o[(slice(None), *i)] = attend(
            at(query, i),
            [at(key, j) for j in every],
            [at(value, j) for j in every],
            similarity,
            getattr(layer, "w", None),
        )
    return o


def channel_attention(x: Tensor) -> Tensor:
    """C(x) of Fu et al., 2019, with the authors' max - energy."""
    rows = x.flatten(1)
    y = torch.zeros_like(rows)
    for c in range(len(rows)):
        energy = [float(rows[c] @ rows[d]) for d in range(len(rows))]
        for d, weight in enumerate(softmax([max(energy) - e for e in energy])):
            y[c] += weight * rows[d]
    return y.view_as(x)


def criss_cross(x: Tensor, layer: CrissCrossAttention) -> Tensor:
    """Huang et al., 2019: every pass over the positions that share all coordinates but at most one."""
    for _ in range(layer.passes):
        query, key, value = project(x, layer.query), project(x, layer.key), project(x, layer.value)
        y = torch.zeros_like(x)
        for i in positions(x.shape[1:]):
            lines = [j for j in positions(x.shape[1:]) if sum(a != b for a, b in zip(i, j, strict=True)) <= 1]
            y[(slice(None), *i)] = attend(
                at(query, i), [at(key, j) for j in lines], [at(value, j) for j in lines], "dot_product", None
            )
        x = x + layer.gamma * y
    return x


def evaluated(x: Tensor, transform: nn.Sequential) -> Tensor:
    """1x1 convolution, batch norm in evaluation, ReLU at each position."""
    conv, norm, _ = transform
    y = project(x, conv)
    for c in range(len(y)):
        scale = float(norm.weight[c]) / math.sqrt(float(norm.running_var[c]) + norm.eps)
        y[c] = ((y[c] - norm.running_mean[c]) * scale + norm.bias[c]).clamp(min=0)
    return y


def object_context(x: Tensor, layer: ObjectContext, *, scale: float) -> tuple[Tensor, Tensor]:
    """B(x) of Yuan et al., 2020, in evaluation, and what each position gathers from each, as (*size, *size)."""
    logits = project(x, layer.regions)
    every = positions(x.shape[1:])
    m = [softmax([float(at(logits, i)[k]) for i in every]) for k in range(len(logits))]
    f = [sum((weight * at(x, i) for weight, i in zip(m_k, every, strict=True)), torch.zeros(len(x))) for m_k in m]
    regions = torch.stack(f, 1)
    phi, psi, delta = evaluated(x, layer.phi), evaluated(regions, layer.psi), evaluated(regions, layer.delta)
    context = torch.zeros(len(delta), *x.shape[1:], dtype=x.dtype)
    gathers = torch.zeros(*x.shape[1:], *x.shape[1:], dtype=x.dtype)
    for i in every:
        w = softmax([scale * float(at(phi, i) @ psi[:, k]) for k in range(len(f))])
        for k, weight in enumerate(w):
            context[(slice(None), *i)] += weight * delta[:, k]
            for j, gathered in zip(every, m[k], strict=True):
                gathers[(*i, *j)] += weight * gathered
    y = evaluated(context, layer.rho)
    return evaluated(torch.cat([x, y]), layer.g), gathers


def coordinate(x: Tensor, layer: CoordinateAttention) -> Tensor:
    """B(x) of Hou et al., 2021, in evaluation."""
    every = positions(x.shape[1:])
    gates = []
    for axis, size in enumerate(x.shape[1:]):
        along = torch.zeros(len(x), size, dtype=x.dtype)
        for place in range(size):
            line = [at(x, i) for i in every if i[axis] == place]
            along[:, place] = sum(line) / len(line)
        conv_norm = nn.Sequential(layer.reduce, layer.norm, nn.Identity())
        f = linear_and_norm(along, conv_norm)
        f = f * (f + 3).clamp(0, 6) / 6  # h_swish
        gates.append(1 / (1 + torch.exp(-project(f, layer.gate[axis]))))
    y = torch.zeros_like(x)
    for i in every:
        y[(slice(None), *i)] = at(x, i)
        for axis, place in enumerate(i):
            y[(slice(None), *i)] *= gates[axis][:, place]
    return y


def linear_and_norm(x: Tensor, conv_norm: nn.Sequential) -> Tensor:
    y = project(x, conv_norm[0])
    norm = conv_norm[1]
    for c in range(len(y)):
        y[c] = (y[c] - norm.running_mean[c]) / torch.sqrt(norm.running_var[c] + norm.eps) * norm.weight[c] + norm.bias[
            c
        ]
    return y
