"""Which checkpoints a run keeps, and how they are written: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from farfield.atomic_write import atomic_write


def checkpoints(folder: Path, *, every_n_steps: int | None, has_validation: bool) -> list[Callback]:
    """Keeps last.ckpt, after each epoch and every so many steps, and best.ckpt, by validation top-1.

    The file names do not change, and each file is replaced whole, so that a killed run finds a good one.
    """
    fixed: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
    kept: list[Callback] = [ModelCheckpoint(**fixed, filename="last", every_n_epochs=1, save_on_train_epoch_end=True)]
    if every_n_steps is not None:
        kept.append(_MidEpochCheckpoint(**fixed, filename="last", every_n_train_steps=every_n_steps))
    if has_validation:
        kept.append(
            _BestCheckpoint(**fixed, filename="best", monitor="val/top1", mode="max", save_on_train_epoch_end=False)
        )
    return kept


class _MidEpochCheckpoint(ModelCheckpoint):
    """Saves after whole optimiser steps only, and leaves an epoch's last batch to the epoch's own checkpoint.

    Gradients accumulated so far are in no checkpoint; and resumed from the last batch, Lightning skips the validation.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class _BestCheckpoint(ModelCheckpoint):
    """Gives a tie to the later epoch: small validation splits tie often, and a network goes on learning meanwhile."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The run's folder may have been moved or copied since: its best checkpoint is the one that lies there now."""
        assert self.dirpath is not None
        best = Path(self.dirpath, f"{self.filename}.ckpt")
        if best.is_file() and state_dict["best_model_score"] is not None:
            paths = dict.fromkeys(("best_model_path", "kth_best_model_path"), str(best))
            scores = {str(best): state_dict["best_model_score"]}
            super().load_state_dict({**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": scores})

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        return super().check_monitor_top_k(trainer, current) or (
            current is not None and current == self.best_model_score
        )


BEST_CHECKPOINT = _BestCheckpoint.__qualname__
"""What the name of its state in a checkpoint begins with."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there, whole or not at all.

    Lightning's own writes to the folder for temporary files; where that is another file system, moving it is a copy,
    and a run that is killed meanwhile loses the checkpoint that it would have gone on from.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            torch.save(checkpoint, partial)


class RandomState(Callback):
    """Keeps torch's generators in checkpoints, so that dropout goes on as if the run had never stopped.

    Lightning restores none. They are kept as tensors, which `weights_only` loads.
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
