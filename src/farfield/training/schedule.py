"""The learning rate's schedule."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from farfield.training.optimisation import Optimisation

log = logging.getLogger("farfield")


def lr_factor(step: int, settings: Optimisation, *, steps_per_epoch: float, total_steps: int) -> float:
    """The learning rate at an optimiser step, relative to `settings.lr`. Steps count from 0."""
    epoch = step / steps_per_epoch
    if epoch < settings.warmup_epochs:
        rise = epoch / settings.warmup_epochs
        start = settings.warmup_factor
        return start + (1 - start) * rise
    if settings.schedule == "steps":
        return settings.step_factor ** sum(epoch >= at for at in settings.step_epochs)
    warmup_steps = settings.warmup_epochs * steps_per_epoch
    fraction = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))


def scaled(settings: Optimisation, global_batch_size: int) -> Optimisation:
    """The settings with the learning rate of a run whose steps take `global_batch_size` clips."""
    if settings.lr_batch_size is None or settings.lr_batch_size == global_batch_size:
        return settings
    lr = settings.lr * global_batch_size / settings.lr_batch_size
    log.info(
        "the learning rate is %g: %g for %d clips a step, times %d / %d",
        lr,
        settings.lr,
        settings.lr_batch_size,
        global_batch_size,
        settings.lr_batch_size,
    )
    return replace(settings, lr=lr)
