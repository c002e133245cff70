"""Compilation of the network in training, with a backend that counts its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from farfield.training.execution import run_eagerly


class TwoLayers(nn.Module):
    """A network with a `forward` of its own: torch 2.9 leaves an `nn.Sequential` uncompiled."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.second = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


def test_run_eagerly_calls_hooks_and_not_the_compiled_graph() -> None:
    compiled_calls: list[str] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            compiled_calls.append("graph")
            return graph(*args)

        return call

    network = TwoLayers()
    network.compile(backend=backend)
    x = torch.randn(7, 3)
    expected = network(x)
    assert len(compiled_calls) == 1
    hook_calls: list[nn.Module] = []
    hook = network.first.register_forward_hook(lambda module, inputs, output: hook_calls.append(module))
    with run_eagerly():
        torch.testing.assert_close(network(x), expected)
    hook.remove()
    assert len(compiled_calls) == 1
    assert hook_calls == [network.first]
    network(x)
    assert len(compiled_calls) == 2  # compiled again outside
