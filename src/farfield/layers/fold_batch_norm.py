"""Fold batch norms into the convolutions before them, for inference.

In evaluation a batch norm is a scale and a shift per channel, and a convolution is linear, so

    gamma (w * x + b - mean) / sqrt(var + eps) + beta = w' * x + b'
    w' = gamma / sqrt(var + eps) w            b' = gamma / sqrt(var + eps) (b - mean) + beta

is one convolution, which saves a pass over the features. PyTorch computes w' and b'. One traced forward pass shows
which norm follows which convolution, in any network.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from farfield.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from farfield.layers.compiler_import import without_compiler
from farfield.layers.frozen_batch_norm import FrozenBatchNorm3d
from farfield.layers.meta_copy import meta_copy
from farfield.layers.replace_modules import replace_modules
from farfield.layers.sub_batch_norm import join_batch_norm

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, FrozenBatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid)
_SHAPE_KEEPING = (*BATCH_NORMS, BatchNorm1d, BatchNorm2d, BatchNorm3d, *ACTIVATIONS)


@torch.no_grad()
def fold_batch_norm(
    network: nn.Module,
    example: Any,
    *,
    forward: Callable[[nn.Module, Any], object] | None = None,
    in_place: bool = False,
) -> nn.Module:
    """Copy a network, set the copy to evaluation mode, and fold its batch norms into the convolutions before them.

    A norm is folded if it has running statistics, if only the norm uses the output of the convolution before it, and if
    norm and convolution each run exactly once in a forward pass. Convolutions with a reparametrised weight (weight
    norm, pruning) are left unchanged. Folded norms are replaced by `nn.Identity`; all other norms stay. The copy and
    the original give the same output up to rounding.

    Args:
        network: any network. Split batch norms (`SubBatchNorm3d`) are joined first. Frozen norms are folded, too.
        example: input for one forward pass, of any valid size. If it is on the meta device, the pass runs in a copy of
            the network on the meta device, so only shapes are computed.
        forward: function of network and example that runs the network; None for network(example).
        in_place: change the given network and return it, instead of a copy.
    """
    network = join_batch_norm(network if in_place else copy.deepcopy(network)).eval()
    is_meta = any(tensor.is_meta for tensor in _tensors_in(example))
    with without_compiler() if is_meta else nullcontext():
        traced = _without_arithmetic(meta_copy(network)) if is_meta else network
        trace = _Trace(traced)
        with trace:
            output = forward(traced, example) if forward is not None else traced(example)
    trace.reads.update(id(tensor) for tensor in _tensors_in(output))
    original: dict[nn.Module, Any] = dict(zip(traced.modules(), network.modules(), strict=True))
    folded: set[nn.Module] = set()
    for conv, norm in ((original[conv], original[norm]) for conv, norm in trace.pairs()):
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        folded.add(norm)
    return replace_modules(network, lambda module: nn.Identity() if module in folded else None)


def _without_arithmetic(traced: nn.Module) -> nn.Module:
    """Replace the forward pass of norms and activations by `torch.empty_like`, in place, and return the network.

    `traced` is on the meta device, so only shapes matter, and norms and activations keep the shape of their input.
    Otherwise their own forward passes would take most of the time of the network's forward pass.
    """
    for module in traced.modules():
        if type(module) in _SHAPE_KEEPING:  # a subclass might do more
            module.forward = torch.empty_like
    return traced


class _Trace(TorchFunctionMode):
    """While a network runs, record which convolution each tensor comes from, and how often each tensor is used."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: Counter[nn.Module] = Counter()
        self.maker: dict[int, nn.Module] = {}
        self.input: dict[nn.Module, int] = {}
        self.reads: Counter[int] = Counter()
        self.alive: list[object] = []  # Python reuses the ids of freed tensors

    def __enter__(self) -> _Trace:
        self.hooks = [
            module.register_forward_hook(self._made)
            for module in self.network.modules()
            if isinstance(module, BATCH_NORMS + CONVOLUTIONS)
        ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self.hooks:
            hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = _tensors_in((args, kwargs))
        self.alive += tensors
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        asks = name in ("dim", "size") or (name == "__get__" and not isinstance(result, Tensor))  # x.shape and the like
        if not asks:
            self.reads.update(id(tensor) for tensor in tensors)
        return result

    def _made(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.calls[module] += 1
        if not inputs:  # passed by keyword
            return
        self.input[module] = id(inputs[0])
        self.maker[id(output)] = module
        self.alive += [inputs[0], output]

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Yield each pair of a convolution and the norm that can be folded into it."""
        for norm, given in self.input.items():
            conv = self.maker.get(given)
            if isinstance(norm, BATCH_NORMS) and isinstance(conv, CONVOLUTIONS) and norm.running_mean is not None:
                once = self.calls[norm] == self.calls[conv] == 1
                # Weight norm, spectral norm and pruning compute the weight in each forward pass.
                own_weight = isinstance(conv.weight, nn.Parameter) and not is_parametrized(conv)
                if once and own_weight and self.reads[given] == 1:
                    yield conv, norm


def _tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    found: list[Tensor] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor):
            found.append(each)
        elif isinstance(each, Mapping):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)
    return found
