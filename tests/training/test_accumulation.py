"""Accumulated batches: each step has the mean gradient of its batches, also the last one of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from training.test_fit import arguments


class Gradients(Callback):
    """Record the gradient of the classifier's bias at each step, and those of the step's batches."""

    batches: list[Tensor]
    steps: list[tuple[Tensor, list[Tensor]]]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Gradients.batches, Gradients.steps = [], []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        with torch.enable_grad():
            loss = pl_module.batch_loss(pl_module(batch.clips), batch)
        Gradients.batches.append(torch.autograd.grad(loss, pl_module.network.head.fc.bias)[0])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        Gradients.steps.append((pl_module.network.head.fc.bias.grad.clone(), Gradients.batches))
        Gradients.batches = []


@pytest.mark.slow
def test_each_step_has_the_mean_gradient_of_its_batches(
    figures: Path, tmp_path: Path, run_farfield: Callable[..., int]
) -> None:
    options = [
        "--data.batch_size=4",
        "--trainer.accumulate_grad_batches=4",
        "--trainer.max_epochs=2",
        "--model.dropout=0",
    ]
    options.append("--trainer.callbacks=[{class_path: training.test_accumulation.Gradients}]")
    assert run_farfield(*arguments(figures, tmp_path / "run", *options)) == 0
    assert [len(batches) for _, batches in Gradients.steps] == [4, 1, 4, 1]  # 20 videos are five batches
    for found, batches in Gradients.steps:
        torch.testing.assert_close(found, torch.stack(batches).mean(0), rtol=1e-4, atol=1e-6)
