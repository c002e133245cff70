"""Versions of the attention layers' operations for export. They use only operators that every runtime supports.

In PyTorch, attention and non-local layers choose their kernels by device, memory format and input size. An exported
graph would fix one choice for all input sizes, and ONNX has no operator for `torch.searchsorted`, which some kernels
use. While a network is traced, `graph_forms` therefore replaces the kernels by direct implementations of the equations.
Runtimes fuse the operators where they can.

These implementations can need more memory than the kernels, because the affinities of n queries and m keys are n x m
values per head and clip. A runtime stores the affinities if it cannot fuse a softmax between two matrix products. For
`relu_of_sums` and `softmax_of_sums`, all runtimes store them.

In the equations, i is the index of a query, and j is the index of a key. The number of keys is m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farfield.layers import matrix_product, non_local, object_context, pairwise, pointwise, self_attention
from farfield.layers.self_attention import SLICE, perceptron_weights
from farfield.models.head import Head

CONVOLUTION: dict[int, Callable[..., Tensor]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


@contextmanager
def graph_forms() -> Iterator[None]:
    """Replace the layers' kernels by the implementations in this file for the `with` block. Not thread-safe."""
    forms: list[tuple[Any, str, Callable[..., Any]]] = [
        (pointwise, "pointwise", convolution),
        (non_local, "pointwise", convolution),
        (non_local, "memory_format", _contiguous),
        (non_local, "fast_samples", _never),
        (pointwise, "fast_samples", _never),
        (matrix_product, "fast_samples", _never),
        (non_local, "embedded_gaussian", softmax_attention),
        (object_context, "embedded_gaussian", softmax_attention),
        (self_attention, "embedded_gaussian", softmax_attention),
        (pairwise, "embedded_gaussian", softmax_attention),
        (non_local, "dot_product", associative_product),
        (non_local, "concatenation", relu_of_sums),
        (self_attention, "softmax_concatenation", softmax_of_sums),
        (self_attention, "perceptron", perceptron),
        (Head, "forward", _classify(Head.forward)),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in forms]
    try:
        for where, name, form in forms:
            setattr(where, name, form)
        yield
    finally:
        for where, name, form in before:
            setattr(where, name, form)


def convolution(
    x: Float[Tensor, "b c *positions"],
    weight: Float[Tensor, "c2 c_per_group"],
    bias: Float[Tensor, " c2"] | None = None,
    *,
    groups: int = 1,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Float[Tensor, "b c2 *positions"]:
    """Compute W x + b at every position as a convolution, which runtimes fuse with the next operator."""
    return CONVOLUTION[x.ndim](x, weight.view(*weight.shape, *(1,) * (x.ndim - 2)), bias, groups=groups)


def softmax_attention(
    theta: Float[Tensor, "*b n d"], phi: Float[Tensor, "*b m d"], g: Float[Tensor, "*b m e"], *, scale: float = 1.0
) -> Float[Tensor, "*b n e"]:
    """Compute sum_j softmax_j(scale theta_i^T phi_j) g_j.

    Inputs without an axis of heads get one, since torch.onnx (onnxscript 0.7.2) converts no others.
    """
    if theta.ndim == 3:
        return softmax_attention(theta.unsqueeze(1), phi.unsqueeze(1), g.unsqueeze(1), scale=scale).squeeze(1)
    return F.scaled_dot_product_attention(theta, phi, g, scale=scale)


def associative_product(
    theta: Float[Tensor, "*b n d"], phi: Float[Tensor, "*b m d"], g: Float[Tensor, "*b m e"], *, scale: float = 1.0
) -> Float[Tensor, "*b n e"]:
    """Compute scale/m theta_i^T (phi^T g), in this order for all input sizes.

    For small inputs the order (theta_i^T phi^T) g is cheaper, but a graph fixes one order.
    """
    return (theta * scale) @ ((phi.mT @ g) / phi.shape[-2])


def relu_of_sums(
    a: Float[Tensor, "*b n"], b: Float[Tensor, "*b m"], g: Float[Tensor, "*b m e"]
) -> Float[Tensor, "*b n e"]:
    """Compute 1/m sum_j ReLU(a_i + b_j) g_j; the n x m affinities are materialised."""
    return ((a.unsqueeze(-1) + b.unsqueeze(-2)).relu() @ g) / b.shape[-1]


def softmax_of_sums(
    a: Float[Tensor, "b n"], b: Float[Tensor, "b m"], value: Float[Tensor, "b m e"]
) -> Float[Tensor, "b n e"]:
    """Compute sum_j softmax_j(ReLU(a_i + b_j)) value_j; the n x m affinities are materialised."""
    return (a.unsqueeze(-1) + b.unsqueeze(-2)).relu().softmax(-1) @ value


def perceptron(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b m d"], value: Float[Tensor, "b m e"], w: Float[Tensor, " d"]
) -> Float[Tensor, "b n e"]:
    """Compute sum_j softmax_j(w^T tanh(query_i + key_j)) value_j in slices of queries, to bound memory.

    The traced input size fixes the number of slices.
    """
    m, d = int(key.shape[1]), key.shape[2]  # fixes the number of positions, but not the batch size
    slices = query.split(max(1, SLICE // (m * d)), dim=1)
    return torch.cat([perceptron_weights(some, key, w) @ value for some in slices], 1)


def _contiguous(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format  # a graph has no memory formats, and testing for one would fix the sizes


def _never(*tensors: Tensor, width: int) -> bool:
    return False  # oneDNN's own product is no operator of a graph


def _classify(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap `Head.forward`: in a head without pooling windows, the classifier gets features of shape (b c).

    Without the wrapper, it gets shape (b 1 c), and OpenVINO 2026.4 squeezes the wrong axis of this shape if the
    classifier is quantised. Heads with pooling windows are not changed: their classifier gets (b v c) for v windows.
    """

    def classify(head: Head, features: Any) -> Tensor:
        if head.windows is not None:
            return forward(head, features)
        vectors = head.embedding(head.pool_maps(features)).flatten(1)
        return head.normalise_heads(head.fc(vectors))

    return classify
