"""Count the optimiser steps per epoch and per run, and the clips per optimiser step."""

from __future__ import annotations

import logging

from lightning.pytorch import Trainer

from farfield.lightning_compat import data_module

log = logging.getLogger("farfield")


def optimizer_steps(trainer: Trainer) -> tuple[int, int | None]:
    """Return the optimiser steps per epoch and per run (None for a run without an end).

    `trainer.estimated_stepping_batches` is not used: it would start the data loader's workers before a resumed run has
    restored its position in the epoch.
    """
    batches = data_module(trainer).batches_per_epoch()
    per_epoch = -(-batches // trainer.accumulate_grad_batches)
    by_epochs = per_epoch * trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
    by_steps = trainer.max_steps if trainer.max_steps > 0 else None
    total = min((count for count in (by_epochs, by_steps) if count is not None), default=None)
    return per_epoch, total


def clips_per_step(trainer: Trainer) -> int:
    """Count the clips of an optimiser step, over all processes and accumulated batches, and log the calculation."""
    batch_size: int = data_module(trainer).batch_size
    clips = batch_size * trainer.world_size * trainer.accumulate_grad_batches
    log.info(
        "an optimiser step takes %d clips: batch size %d x processes %d x accumulated batches %d",
        clips,
        batch_size,
        trainer.world_size,
        trainer.accumulate_grad_batches,
    )
    return clips
