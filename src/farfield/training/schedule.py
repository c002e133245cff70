"""The learning-rate schedule, and how it continues in a resumed run.

The cosine schedule reaches 0 at the end of the run. If a run is resumed with more epochs, stretching the cosine over
all epochs would raise the learning rate abruptly, and the loss would rise at first. A resumed run therefore keeps its
old schedule, unless `schedule_length` is "extend".
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from farfield.errors import FarfieldError
from farfield.training.optimisation import Optimisation

log = logging.getLogger("farfield")


def lr_factor(step: int, settings: Optimisation, *, steps_per_epoch: float, total_steps: int) -> float:
    """Return the learning rate at an optimiser step (counted from 0), divided by `settings.lr`."""
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


def scale_lr(settings: Optimisation, clips_per_step: int) -> Optimisation:
    """Return settings with `lr` scaled linearly from `lr_batch_size` to this run's clips per step."""
    if settings.lr_batch_size is None or settings.lr_batch_size == clips_per_step:
        return settings
    lr = settings.lr * clips_per_step / settings.lr_batch_size
    log.info(
        "the learning rate is %g: lr is %g for %d clips per step; this run has %d, so lr is multiplied by %d / %d",
        lr,
        settings.lr,
        settings.lr_batch_size,
        clips_per_step,
        clips_per_step,
        settings.lr_batch_size,
    )
    return replace(settings, lr=lr)


@dataclass(frozen=True)
class PreviousSchedule:
    """The schedule of a run before it is resumed.

    Attributes:
        step: optimiser steps done.
        total_steps: step at which the learning-rate schedule ends; None if unknown, or if the run has no end.
        steps_per_epoch: optimiser steps in an epoch; None if unknown, in which case it is assumed unchanged.
        run_steps: step at which the run was to end; None if unknown, or if the run has no end. It differs from
            `total_steps` if an earlier resume changed the end of the run but kept the schedule.
    """

    step: int
    total_steps: int | None
    steps_per_epoch: float | None
    run_steps: int | None = None


def previous_schedule(checkpoint: Mapping[str, Any]) -> PreviousSchedule:
    """Read the schedule from a checkpoint. If an older checkpoint lacks it, infer it from the learning rate."""
    step = int(checkpoint["global_step"])
    saved = checkpoint["farfield"].get("schedule")
    if saved:
        return PreviousSchedule(step, saved["total_steps"], saved["steps_per_epoch"], saved.get("run_steps"))
    return PreviousSchedule(step, _total_steps_from_rate(checkpoint, step), None)


def _total_steps_from_rate(checkpoint: Mapping[str, Any], step: int) -> int | None:
    """Use the learning rate at the current step to infer at which step a cosine schedule ends.

    Returns None if the schedule is not a cosine, has a warm-up, or has not changed the rate yet.
    """
    settings = checkpoint["farfield"].get("optimisation", {})
    states = checkpoint.get("lr_schedulers") or [{}]
    rates, peaks = states[0].get("_last_lr"), states[0].get("base_lrs")
    if settings.get("schedule") != "cosine" or settings.get("warmup_epochs") or not rates or not peaks or not peaks[0]:
        return None
    fraction = math.acos(min(max(2 * rates[0] / peaks[0] - 1, -1), 1)) / math.pi
    return round(step / fraction) if fraction > 1e-6 else None


def resumed_total_steps(
    previous: PreviousSchedule, settings: Optimisation, *, steps_per_epoch: float, total_steps: int
) -> int:
    """Return the step at which the learning-rate schedule of a resumed run ends.

    If the run now ends at another step, the schedule keeps its previous end or moves to the new one, as
    `settings.schedule_length` says. The choice is logged.

    Args:
        previous: schedule before the resume.
        settings: current settings, with `lr` scaled by `scale_lr`.
        steps_per_epoch: current number of optimiser steps in an epoch.
        total_steps: step at which the run now ends.

    Raises:
        FarfieldError: if the run now ends at another step, `settings.schedule_length` is None, and the schedule has
            already ended at a learning rate of 0.
    """
    if settings.schedule != "cosine" or previous.total_steps in (None, total_steps):
        return total_steps
    assert previous.total_steps is not None
    if previous.run_steps == total_steps and settings.schedule_length != "extend":
        return previous.total_steps  # the run's end has not changed since an earlier resume, which kept the schedule
    old_epoch = previous.steps_per_epoch or steps_per_epoch
    kept = previous.total_steps
    if old_epoch != steps_per_epoch:
        kept = round(previous.total_steps / old_epoch * steps_per_epoch)
    if kept == total_steps:  # as many epochs as before, with another batch size
        return total_steps

    def rate(total: int, per_epoch: float = steps_per_epoch) -> float:
        return settings.lr * lr_factor(previous.step, settings, steps_per_epoch=per_epoch, total_steps=total)

    old, stretched = rate(previous.total_steps, old_epoch), rate(total_steps)
    change = (
        f"the run was to end after epoch {kept / steps_per_epoch:g}, and now ends after epoch "
        f"{total_steps / steps_per_epoch:g}"
    )
    name = "--model.optimisation.schedule_length"
    if settings.schedule_length == "extend":
        log.warning(
            "%s. The schedule is stretched to the new length, since %s is 'extend': at step %d, where the run "
            "continues, the learning rate changes from %.4g to %.4g.",
            change, name, previous.step, old, stretched,
        )  # fmt: skip
        return total_steps
    if settings.schedule_length is None and previous.step >= kept:
        raise FarfieldError(
            f"{change}. The schedule has ended at a learning rate of {old:.4g}, so the new epochs would learn nothing. "
            f"To stretch the schedule over the whole run, set {name} to 'extend': at step {previous.step} the rate "
            f"rises from {old:.4g} to {stretched:.4g}, and the loss rises at first. Or start a new run from best.ckpt, "
            "with --model.weights and a lower learning rate."
        )
    after = f" After step {kept} the rate stays at 0, and nothing more is learned." if kept < total_steps else ""
    log.warning(
        "%s. The schedule is kept: at step %d, where the run continues, the learning rate is %.4g; if %s were "
        "'extend', it would be %.4g.%s",
        change, previous.step, rate(kept), name, stretched, after,
    )  # fmt: skip
    return kept
