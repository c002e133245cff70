"""Batch norms folded into the convolutions before them, for inference.

In evaluation a batch norm is a scale and a shift per channel, and a convolution is linear, so

    gamma (w * x + b - mean) / sqrt(var + eps) + beta = w' * x + b'
    w' = gamma / sqrt(var + eps) w            b' = gamma / sqrt(var + eps) (b - mean) + beta

costs nothing where the two together cost a pass over the features. PyTorch does the arithmetic; what is found here is
which norm follows which convolution, in a network of any form: by watching it run.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from farfield.layers.frozen_batch_norm import FrozenBatchNorm3d
from farfield.layers.replace_modules import replace_modules
from farfield.layers.sub_batch_norm import join_batch_norm

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def fold_batch_norm(
    network: nn.Module, example: Any, *, forward: Callable[[nn.Module, Any], object] | None = None
) -> nn.Module:
    """A copy of the network, in evaluation mode, in which norms that follow a convolution are folded into it.

    A norm is folded where its input is a convolution's output that nothing else reads, and both run once; its place is
    taken by an identity. Others, before a convolution say, stay. Outputs agree to rounding.

    Args:
        network: a batch norm in parts (`SubBatchNorm3d`) is joined first, a frozen one folds like a live one.
        example: an input to run once; its size doesn't matter.
        forward: how to run the example; network(example) if not given.
    """
    network = join_batch_norm(copy.deepcopy(network)).eval()
    watch = _Watch(network)
    with watch:
        output = forward(network, example) if forward is not None else network(example)
    watch.reads.update(id(leaf) for leaf in tree_leaves(output))
    folded: set[nn.Module] = set()
    for conv, norm in watch.pairs():
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        folded.add(norm)
    return replace_modules(network, lambda module: nn.Identity() if module in folded else None)


class _Watch(TorchFunctionMode):
    """Notes while a network runs which tensor each convolution made, and what every tensor is given to."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: Counter[nn.Module] = Counter()
        self.maker: dict[int, nn.Module] = {}
        self.input: dict[nn.Module, int] = {}
        self.reads: Counter[int] = Counter()
        self.alive: list[object] = []  # an id is taken again once its tensor is gone

    def __enter__(self) -> _Watch:
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
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.alive += tensors
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        asks = name in ("dim", "size") or (name == "__get__" and not isinstance(result, Tensor))  # x.shape and the like
        if not asks:
            self.reads.update(id(tensor) for tensor in tensors)
        return result

    def _made(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.calls[module] += 1
        if not inputs:  # given by keyword
            return
        self.input[module] = id(inputs[0])
        self.maker[id(output)] = module
        self.alive += [inputs[0], output]

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        for norm, given in self.input.items():
            conv = self.maker.get(given)
            if isinstance(norm, BATCH_NORMS) and isinstance(conv, CONVOLUTIONS) and norm.running_mean is not None:
                once = self.calls[norm] == self.calls[conv] == 1
                # Weight norm and the like make a convolution's weight anew each time.
                own_weight = not conv._forward_pre_hooks and not is_parametrized(conv)
                if once and own_weight and self.reads[given] == 1:
                    yield conv, norm
