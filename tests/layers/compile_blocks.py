"""Compiles every layer and compares with eager, forward and backward."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from layers.blocks import BLOCKS, OTHERS, SIZES, awake

LAYERS = BLOCKS | OTHERS
BACKEND = "aot_eager_default_partitioner"
"""Traces forward and backward like "aot_eager", with a quicker way to cut the trace into the two."""


class SideBySide(nn.Module):
    """Layers with inputs of their own, in one graph: a graph for each layer takes a third longer to compile."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([awake(LAYERS[name][1](8)).train() for name in names])

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        return [layer(x) for layer, x in zip(self.layers, inputs, strict=True)]


def differences(names: tuple[str, ...], backend: str) -> dict[str, str]:
    """Compile layers as one graph, and return "" or what differed for each. If that fails, compile each by itself."""
    torch._dynamo.reset()
    eager = SideBySide(names)
    layers = copy.deepcopy(eager)
    given = [torch.randn(2, 8, *SIZES[LAYERS[name][0]]) for name in names]
    x_eager, x_compiled = ([x.clone().requires_grad_() for x in given] for _ in range(2))
    y_eager = eager(x_eager)
    cotangents = [torch.randn_like(y) for y in y_eager]
    try:
        y_compiled = torch.compile(layers, fullgraph=True, backend=backend)(x_compiled)
        for y in (y_eager, y_compiled):
            torch.autograd.backward(y, cotangents)
    except Exception as error:
        if len(names) == 1:
            return {names[0]: repr(error)}
        return {key: value for name in names for key, value in differences((name,), backend).items()}
    outputs, inputs = zip(y_eager, y_compiled, strict=True), zip(x_eager, x_compiled, strict=True)
    pairs = zip(names, outputs, inputs, eager.layers, layers.layers, strict=True)
    return {name: difference(*pair) for name, *pair in pairs}


def difference(
    outputs: tuple[Tensor, Tensor], inputs: tuple[Tensor, Tensor], eager: nn.Module, compiled: nn.Module
) -> str:
    try:
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-3, atol=1e-3)
        for (key, ours), theirs in zip(eager.named_parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-3, atol=1e-3, msg=key)
    except AssertionError as error:
        return repr(error)
    return ""


def differences_of_layers() -> dict[str, str]:
    """Return "" or what differed, by layer; and of one layer with PyTorch's default compiler, as "inductor"."""
    found: dict[str, str] = {}
    for ndim in SIZES:
        names = tuple(name for name in LAYERS if LAYERS[name][0] == ndim)
        for i in range(0, len(names), 8):
            found |= differences(names[i : i + 8], BACKEND)
    found["inductor"] = differences(("concatenation",), "inductor")["concatenation"]
    return found
