"""Compilation of the network in training, with a backend that counts its calls, and recomputed activations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from allocations import held_bytes
from torch import nn

from farfield import build_model
from farfield.data.datasets import Batch
from farfield.errors import FarfieldError
from farfield.training.execution import Execution, run_eagerly
from farfield.training.lightning_module import TrainingModule


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


def trained(execution: Execution, *, steps: int = 3) -> tuple[list[float], int]:
    """Train a network on random clips; return the losses and the bytes held after the second forward pass."""
    torch.manual_seed(0)
    clip: Any = {"num_frames": 4, "crop_px": 32}
    network = build_model("tiny", num_classes=3, insert={"res3": [1]}, dropout=0.3, clip=clip)
    module = TrainingModule(network, execution=execution).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    losses, held = [], 0
    for step in range(steps):
        clips = torch.randn(4, 3, 4, 32, 32).to(memory_format=torch.channels_last_3d)
        with execution.forward_context():
            if step == 1:  # the first step also allocates what every step keeps
                loss, held = held_bytes(lambda: module(clips).square().sum())  # noqa: B023  # called at once
            else:
                loss = module(clips).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, held


@pytest.mark.slow
def test_recomputed_norms_and_sums_save_memory_and_change_no_result() -> None:
    plain, norms, sums = (
        trained(execution) for execution in (Execution(recompute_norms=False), Execution(), Execution(recompute_sums=2))
    )
    assert norms[0] == pytest.approx(plain[0], rel=1e-5)
    assert sums[0] == pytest.approx(plain[0], rel=1e-5)
    assert norms[1] < 0.8 * plain[1]
    assert sums[1] < 0.95 * norms[1]


def test_the_training_step_runs_in_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held of a norm's output: the bytes that a step holds are those of `trained`, not of a plain pass."""
    held = {}
    for norms in (False, True):
        clip: Any = {"num_frames": 4, "crop_px": 32}
        module = TrainingModule(
            build_model("tiny", num_classes=3, clip=clip), execution=Execution(recompute_norms=norms)
        ).train()
        for name in ("log", "log_dict"):
            monkeypatch.setattr(module, name, lambda *_, **__: None)
        optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
        monkeypatch.setattr(module, "_trainer", SimpleNamespace(optimizers=[optimizer], accumulate_grad_batches=1))
        clips = torch.randn(4, 3, 4, 32, 32).to(memory_format=torch.channels_last_3d)
        batch = Batch(clips, torch.tensor([0, 1, 2, 0]), torch.arange(4), None, [])
        module.training_step(batch, 0)
        loss, held[norms] = held_bytes(partial(module.training_step, batch, 0))
        loss.backward()
    assert held[True] < 0.8 * held[False]


@pytest.mark.parametrize(("sums", "norms"), [(-1, True), (2, False)])
def test_recompute_sums_is_checked(sums: int, norms: bool) -> None:
    message = rf"execution.recompute_sums is {sums}.*at least 0, and a value above 0 needs recompute_norms"
    with pytest.raises(FarfieldError, match=message):
        Execution(recompute_sums=sums, recompute_norms=norms)


def test_a_compiled_network_recomputes_nothing_here() -> None:
    assert isinstance(Execution(compile=True).forward_context(), nullcontext)
