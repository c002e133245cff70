"""Compilation of the network in training, with a backend that counts its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from farfield.training.execution import run_eagerly


def test_run_eagerly_calls_hooks_and_not_the_compiled_graph() -> None:
    compiled_calls: list[str] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            compiled_calls.append("graph")
            return graph(*args)

        return call

    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    network.compile(backend=backend)
    x = torch.randn(7, 3)
    expected = network(x)
    assert len(compiled_calls) == 1
    hook_calls: list[nn.Module] = []
    hook = network[0].register_forward_hook(lambda module, inputs, output: hook_calls.append(module))
    with run_eagerly():
        torch.testing.assert_close(network(x), expected)
    hook.remove()
    assert len(compiled_calls) == 1
    assert hook_calls == [network[0]]
    network(x)
    assert len(compiled_calls) == 2  # compiled again outside
