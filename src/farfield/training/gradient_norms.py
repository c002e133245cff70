"""Norms of the gradients by stage, to see where learning stalls or blows up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from farfield.models.network import ActionNet
from farfield.training.fsdp import whole_tensor
from farfield.training.run_folder import append_row, keep_rows


class GradientNorms(Callback):
    """Logs the norm of each stage's gradient, before it is clipped, every `log_every_n_steps`.

    They are in gradient_norms.csv, too.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "gradient_norms.csv"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            columns = ["step", *stages_of(pl_module.network)]  # type: ignore[arg-type]
            keep_rows(self.path, columns, trainer.global_step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        step, every = trainer.global_step + 1, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or step % every:
            return
        network: Any = pl_module.network
        norms = gradient_norms(network)  # in 16-mixed, Lightning has taken the scale off before
        pl_module.log_dict({f"gradient_norm/{stage}": norm for stage, norm in norms.items()}, batch_size=1)
        if trainer.is_global_zero:
            cells = [f"{norms[stage]:.6g}" if stage in norms else "" for stage in stages_of(network)]
            append_row(self.path, [step, *cells])


def stages_of(network: ActionNet) -> list[str]:
    """Where gradients are told apart, in the network's order."""
    return ["stem", *(name for name in network.backbone.stage_specs if not name.startswith("fast_")), "head"]


def gradient_norms(network: ActionNet) -> dict[str, float]:
    """The L2 norm of the gradients of "stem", "res2", ... and "head"; inserted blocks count to their stage."""
    trunk = "backbone.trunk."
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    places = network.backbone.places([name.removeprefix(trunk) for name in gradients if name.startswith(trunk)])
    of_stage: dict[str, list[torch.Tensor]] = {}
    for name, gradient in gradients.items():
        stage = places[name.removeprefix(trunk)].stage if name.startswith(trunk) else "head"
        of_stage.setdefault(stage, []).append(gradient)
    norms = {stage: whole_tensor(torch.nn.utils.get_total_norm(each)) for stage, each in of_stage.items()}
    return {stage: float(norm) for stage, norm in norms.items()}
