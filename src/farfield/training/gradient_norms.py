"""Gradient norms by stage, which show vanishing and exploding gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from farfield.lightning_compat import log_every_n_steps
from farfield.models.backbones import TOP
from farfield.models.network import ActionNet
from farfield.training.csv_log import append_row, start_log
from farfield.training.fsdp import full_tensor


class GradientNorms(Callback):
    """Log the gradient norm of each stage before clipping, and write it to gradient_norms.csv.

    Both happen every `log_every_n_steps` optimiser steps.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "gradient_norms.csv"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            columns = ["step", *stages_of(pl_module.network)]  # type: ignore[arg-type]
            start_log(self.path, columns, trainer.global_step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        step, every = trainer.global_step + 1, log_every_n_steps(trainer)
        if not every or step % every:
            return
        network: Any = pl_module.network
        norms = gradient_norms(network)  # in 16-mixed, Lightning has unscaled the gradients by now
        pl_module.log_dict({f"gradient_norm/{stage}": norm for stage, norm in norms.items()}, batch_size=1)
        if trainer.is_global_zero:
            cells = [f"{norms[stage]:.6g}" if stage in norms else "" for stage in stages_of(network)]
            append_row(self.path, [step, *cells])


def stages_of(network: ActionNet) -> list[str]:
    """List the stages whose gradient norms are logged: "stem", "res2", ... and "head".

    If blocks are inserted after the last stage, they form a stage "top" before "head".
    """
    backbone = network.backbone
    return [
        *(backbone.depth_names or ["stem"]),
        *([TOP] if any(len(backbone.top_blocks(name)) for name in backbone.tops) else []),
        "head",
    ]


def gradient_norms(network: ActionNet) -> dict[str, float]:
    """Compute the L2 norm of each stage's gradients, by the stages' names (see `stages_of`).

    A stage includes the blocks inserted into it. Stages without gradients are left out.
    """
    trunk = "backbone.trunk."
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    places = network.backbone.places([name.removeprefix(trunk) for name in gradients if name.startswith(trunk)])
    of_stage: dict[str, list[torch.Tensor]] = {}
    for name, gradient in gradients.items():
        if name.startswith(trunk):
            stage = places[name.removeprefix(trunk)].stage
        else:
            stage = TOP if name.startswith("backbone.") else "head"
        of_stage.setdefault(stage, []).append(gradient)
    norms = {stage: full_tensor(torch.nn.utils.get_total_norm(each)) for stage, each in of_stage.items()}
    return {stage: float(norm) for stage, norm in norms.items()}
