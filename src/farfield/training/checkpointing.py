"""Checkpoints of a run: callbacks that write them, atomic writes, and random states stored in checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from farfield.atomic_write import atomic_write
from farfield.lightning_compat import best_score, monitored_metric, relocate_best
from farfield.training.monitor import Monitor, best_mode

log = logging.getLogger("farfield")


def checkpoint_callbacks(
    folder: Path, *, every_n_steps: int | None, has_validation: bool, monitor: Monitor = "val/top1"
) -> list[Callback]:
    """Create the callbacks that write last.ckpt and best.ckpt.

    File names are fixed, and each write is atomic, so a killed run leaves complete files.

    Args:
        folder: folder for the checkpoints.
        every_n_steps: number of optimiser steps between writes of last.ckpt within an epoch, see `MidEpochCheckpoint`.
            None for no writes within an epoch. In either case, last.ckpt is written after each epoch.
        has_validation: whether the run has validation data. If so, best.ckpt holds the best epoch; otherwise it is not
            written.
        monitor: metric that chooses best.ckpt.
    """
    fixed: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
    callbacks: list[Callback] = [
        ModelCheckpoint(**fixed, filename="last", every_n_epochs=1, save_on_train_epoch_end=True)
    ]
    if every_n_steps is not None:
        callbacks.append(MidEpochCheckpoint(**fixed, filename="last", every_n_train_steps=every_n_steps))
    if has_validation:
        callbacks.append(
            BestCheckpoint(
                **fixed, filename="best", monitor=monitor, mode=best_mode(monitor), save_on_train_epoch_end=False
            )
        )
    return callbacks


class MidEpochCheckpoint(ModelCheckpoint):
    """Save checkpoints within epochs, right after an optimiser step, but not after an epoch's last batch.

    While gradients accumulate, nothing is saved, because checkpoints do not contain accumulated gradients. After the
    last batch, nothing is saved, because a run resumed from that point would skip the epoch's validation. The
    checkpoint at the end of the epoch is written after the validation.
    """

    @property
    def state_key(self) -> str:
        """Key of the callback's state in checkpoints, fixed so that older runs resume."""
        return super().state_key.replace(type(self).__qualname__, "_MidEpochCheckpoint", 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class BestCheckpoint(ModelCheckpoint):
    """Keep the checkpoint of the best epoch. Ties, which small validation sets often have, go to the later epoch."""

    STATE_KEY = "_BestCheckpoint"

    @property
    def state_key(self) -> str:
        """Key of the callback's state in checkpoints, fixed so that older runs resume."""
        return super().state_key.replace(type(self).__qualname__, self.STATE_KEY, 1)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Warn if the checkpoint used another `monitor`, since the next validation will then overwrite best.ckpt."""
        best = best_metric(checkpoint)
        if best is not None and best.name != self.monitor:
            log.warning(
                "best.ckpt was chosen by %s, but monitor is now %s: the next validation overwrites best.ckpt",
                best.name,
                self.monitor,
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score from `state_dict` if best.ckpt still exists in this run's folder.

        The folder may have been moved, so the path of best.ckpt in `state_dict` is replaced with the current path.
        """
        assert self.dirpath is not None
        best = Path(self.dirpath, f"{self.filename}.ckpt")
        if best.is_file() and best_score(state_dict) is not None:
            super().load_state_dict(relocate_best(state_dict, best))

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        return super().check_monitor_top_k(trainer, current) or (
            current is not None and current == self.best_model_score
        )


class BestMetric(NamedTuple):
    """Metric that chooses best.ckpt, and its best value."""

    name: str
    value: float


def best_metric(checkpoint: Mapping[str, Any]) -> BestMetric | None:
    """Return the metric that chooses best.ckpt, with its best value so far; None before the first validation."""
    for name, state in checkpoint["callbacks"].items():
        if name.startswith(BestCheckpoint.STATE_KEY):
            value = best_score(state)
            return None if value is None else BestMetric(monitored_metric(state), value)
    return None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint to a temporary file next to its target, then rename it.

    Lightning writes to the system's temporary folder. If that folder is on another file system, the final move is a
    copy. A run that is killed during the copy loses its only checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            torch.save(checkpoint, partial)


class RandomState(Callback):
    """Save and restore the state of torch's random generators, so that a resumed run continues their sequences.

    Lightning does not save the states. They are stored as tensors, which `weights_only` loading accepts.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_state"] = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(pl_module.device) if pl_module.device.type == "cuda" else None,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint.get("random_state", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._restored:
            torch.set_rng_state(self._restored["cpu"].cpu())
            if self._restored["cuda"] is not None and pl_module.device.type == "cuda":
                torch.cuda.set_rng_state(self._restored["cuda"].cpu(), pl_module.device)
