"""Recompute cheap activations in the backward pass, instead of keeping them in memory.

In training, a convolution, a batch norm and a ReLU keep two tensors of the same size for the backward pass. The norm
needs the convolution's output x; the ReLU and the next convolution need the ReLU's output y. Keeping x is enough, since
y = ReLU(a x + b), with one scale and one shift per channel, costs little to compute again. In the same way, the sum at
the end of a residual block is computed again from its terms. The output of a max-pooling and the positions of its
maxima are computed again from the pooling's input, both in one operation.

Rota Bulo, Porzi, Kontschieder, "In-Place Activated BatchNorm for Memory-Optimized Training of DNNs", CVPR 2018,
recompute the norm's input from the output of an invertible activation. Pleiss et al., "Memory-Efficient Implementation
of DenseNets", 2017, recompute norms. Here the activation need not be invertible, and the network's layers are not
changed: `torch.autograd.graph.saved_tensors_hooks` gives each tensor that autograd saves, and autograd's graph shows
how the tensor was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from farfield.layers.torch_private import (
    NORM_NODES,
    POOL_NODE,
    BatchNormRecord,
    PoolRecord,
    batch_norm_record,
    has_unit_alpha,
    max_pool_record,
    reads_without_side_effects,
    view_base,
)


def _swish(x: Tensor, inplace: bool = False) -> Tensor:
    """Compute Swish, x * sigmoid(x), with PyTorchVideo's rounding, which differs from that of `F.silu`."""
    return torch.sigmoid(x).mul_(x)


ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "ReluBackward0": F.relu,
    "SiluBackward0": F.silu,
    "HardswishBackward0": F.hardswish,
    "SwishFunctionBackward": _swish,
}
"""Activations that are recomputed, by the name of their node in autograd's graph."""

COMBINATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "AddBackward0": (torch.Tensor.add_, torch.add),
    "MulBackward0": (torch.Tensor.mul_, torch.mul),
}
"""Combinations of two tensors that are recomputed, by node name: the in-place and the ordinary operation."""


@contextmanager
def recompute_activations(*, sums_per_kept: int = 0) -> Iterator[None]:
    """Save memory in a forward pass inside the `with` block, by recomputing cheap activations in its backward pass.

    These tensors are recomputed:
    - outputs of batch norms in training mode, except norms that have a weight but no trained bias
    - outputs of ReLU, SiLU, Hardswish and PyTorchVideo's Swish, if their input is a recomputed tensor
    - products of a recomputed tensor and another tensor with a `grad_fn` (no view), as in squeeze-and-excitation
    - outputs of 3D max-pooling, with the positions of the maxima
    - sums at the end of residual blocks, if `sums_per_kept` is positive

    On the CPU, recomputed tensors and gradients are bit-identical to those without recomputation; on other devices they
    agree up to rounding. Running statistics are updated once, as usual. The backward pass may run after the block.
    Compiled code is not affected: `torch.compile` chooses by itself what to recompute.

    Args:
        sums_per_kept: number of consecutive residual sums that are recomputed before one stays in memory; 0 recomputes
            none. Larger numbers save more memory, and cost an addition and an activation per recomputed sum.

    Raises:
        ValueError: if sums_per_kept is negative.

    Example:
        with recompute_activations():
            loss = F.cross_entropy(network(clips), labels)
        loss.backward()
    """
    if sums_per_kept < 0:
        raise ValueError(f"sums_per_kept is {sums_per_kept}; it must be at least 0.")
    graph = _Graph(sums_per_kept)
    try:
        with torch.autograd.graph.saved_tensors_hooks(graph.pack, _Saved.read):
            yield
    finally:
        graph.clear()


class _Kept:
    """Tensor that is kept in memory."""

    num_sums = 0

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach()
        self._version = tensor._version

    def value(self) -> Tensor:
        if self._tensor._version != self._version:
            raise RuntimeError(
                "a tensor that is needed to compute gradients was modified in place after it had been saved. Use an "
                "operation that is not in place."
            )
        return self._tensor

    read = value

    def scratch(self) -> Tensor | None:
        return None


class _Recomputed:
    """Tensor that is recomputed when it is read.

    Attributes:
        num_sums: number of consecutive residual sums that must be recomputed to get this tensor. If the tensor is
            itself a residual sum, it is counted.
        unread: number of times that autograd will still read the tensor. Once recomputed, the tensor is kept in memory
            until this number is 0.
    """

    def __init__(self, compute: Callable[[], Tensor], num_sums: int = 0) -> None:
        self.num_sums = num_sums
        self.unread = 0
        self._compute = compute
        self._value: Tensor | None = None

    def value(self) -> Tensor:
        if self._value is not None:
            return self._value
        with torch.no_grad():
            value = self._compute()
        self.hold(value)
        return value

    def scratch(self) -> Tensor | None:
        """Return the tensor if the caller may overwrite it, because nothing else will read it; None otherwise."""
        return self.value() if self._value is None and self.unread <= 0 else None

    def hold(self, value: Tensor) -> None:
        """Store `value`, the recomputed tensor, if autograd will read it again."""
        if self.unread > 0:
            self._value = value

    def read(self) -> Tensor:
        """Return the tensor for the backward pass of an operation that saved it. The last read frees its memory."""
        value = self.value()
        self.unread -= 1
        if self.unread <= 0:
            self._value = None
        return value


_Source = _Kept | _Recomputed


class _Saved:
    """One tensor that autograd has saved."""

    __slots__ = ("layout", "source", "view")

    def __init__(self, source: _Source, tensor: Tensor, view: Tensor | None = None) -> None:
        self.source = source
        self.layout = tensor.shape, tensor.stride()
        self.view = None if view is None else (view.shape, view.stride(), view.storage_offset())

    def read(self) -> Tensor:
        """Return the tensor, or the view of it that was saved, in its original memory format."""
        tensor = self.source.read()
        size, stride = self.layout
        if tensor.stride() != stride:
            tensor = tensor.new_empty_strided(size, stride).copy_(tensor)
        return tensor if self.view is None else tensor.as_strided(*self.view)


class _Graph:
    """Maps tensors of a forward pass to their sources, from which the backward pass gets the tensors.

    A source is a `_Kept` or a `_Recomputed`. A tensor is identified by the node of autograd's graph (`grad_fn`) that
    computes it, and by its index among the node's outputs.
    """

    def __init__(self, sums_per_kept: int) -> None:
        self.sums_per_kept = sums_per_kept
        self.sources: dict[tuple[Any, int], _Source | None] = {}
        """Maps (node, output) to the source; to None for a tensor that was not saved and cannot be recomputed."""
        self.positions: dict[int, _Saved] = {}
        """Saved integer tensors by memory address. Some of them turn out to be positions of maxima."""

    def clear(self) -> None:
        self.sources.clear()
        self.positions.clear()

    def pack(self, tensor: Tensor) -> _Saved:
        """Return the object that autograd saves in place of a tensor."""
        base = view_base(tensor)
        origin = tensor if base is None else base
        if origin.grad_fn is None:
            saved = _Saved(_Kept(tensor), tensor)
            if tensor.dtype == torch.int64:
                self.positions[tensor.data_ptr()] = saved
            return saved
        output = (origin.grad_fn, origin.output_nr)
        source = self.source(*output)
        if not isinstance(source, _Recomputed):
            self.sources[output] = _Kept(origin)
            return _Saved(_Kept(tensor), tensor)
        source.unread += 1
        return _Saved(source, origin, None if base is None else tensor)

    def source(self, node: Any, output: int) -> _Source | None:
        """Return the source of one of a node's outputs; None if it was not saved and cannot be recomputed."""
        if node is None:
            return None
        if (node, output) not in self.sources:
            self.sources[node, output] = self._recomputed(node)
        return self.sources[node, output]

    def _recomputed(self, node: Any) -> _Recomputed | None:
        """Return the `_Recomputed` for a node's output; None if the output is not recomputed."""
        name = node.name()
        if name not in (*ACTIVATIONS, *COMBINATIONS, *NORM_NODES, POOL_NODE):
            return None
        parents = [self.source(*parent) for parent in node.next_functions]
        if parents[0] is None or not reads_without_side_effects(node, _Saved.read):
            return None
        if name in NORM_NODES:
            norm = batch_norm_record(node)
            return None if norm is None else _norm(norm, parents[0])
        if name == POOL_NODE:
            pool = max_pool_record(node)
            return _pooling(pool, parents[0], self.positions.get(pool.address))
        if name in COMBINATIONS:
            return self._combination(node, parents)
        if isinstance(parents[0], _Recomputed):
            return _activation(ACTIVATIONS[name], parents[0])
        return None

    def _combination(self, node: Any, terms: Sequence[_Source | None]) -> _Recomputed | None:
        first, second = terms
        if first is None or second is None:
            return None
        num_sums = max(first.num_sums, second.num_sums)
        if node.name() == "AddBackward0":
            if num_sums >= self.sums_per_kept or not has_unit_alpha(node):
                return None
            num_sums += 1
        elif not (isinstance(first, _Recomputed) or isinstance(second, _Recomputed)):
            return None
        return _Recomputed(partial(_combine, *COMBINATIONS[node.name()], first, second), num_sums)


def _norm(norm: BatchNormRecord, source: _Source) -> _Recomputed:
    return _Recomputed(lambda: norm.output(source.value()), source.num_sums)


def _activation(function: Callable[..., Tensor], source: _Recomputed) -> _Recomputed:
    def compute() -> Tensor:
        x = source.scratch()
        return function(source.value()) if x is None else function(x, inplace=True)

    return _Recomputed(compute, source.num_sums)


def _pooling(pool: PoolRecord, source: _Source, saved: _Saved | None) -> _Recomputed:
    """Return a `_Recomputed` for the output of a max-pooling, and free the saved positions of its maxima.

    The pooling's own backward pass reads the positions. If the output is recomputed before this read, the positions are
    recomputed together with it. Otherwise they are recomputed at this read.

    Args:
        pool: settings of the pooling.
        source: source of the pooling's input.
        saved: the positions, as autograd saved them. None if they were not found; the positions then stay in memory.
    """

    def compute() -> Tensor:
        values, found = pool.compute(source.value())
        positions.hold(found)
        return values

    positions = _Recomputed(lambda: pool.compute(source.value())[1])
    if saved is not None:
        saved.source, positions.unread = positions, 1
    return _Recomputed(compute, source.num_sums)


def _combine(
    in_place: Callable[..., Tensor], function: Callable[..., Tensor], first: _Source, second: _Source
) -> Tensor:
    """Return `function(first, second)`, a sum or product.

    Args:
        in_place: variant of `function` that writes the result into its first operand. It is used, to save memory, if
            one of the tensors has the shape and dtype of the result and is not needed afterwards.
        function: the sum or product of two tensors.
        first: source of the first tensor.
        second: source of the second tensor.
    """
    for one, other in ((first, second), (second, first)):
        x = one.scratch()
        if x is not None:
            y = other.value()
            fits = torch.result_type(x, y) == x.dtype and torch.broadcast_shapes(x.shape, y.shape) == x.shape
            return in_place(x, y) if fits else function(x, y)
    return function(first.value(), second.value())
