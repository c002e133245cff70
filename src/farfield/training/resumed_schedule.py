"""Keep or extend the learning rate's schedule of a run that is resumed with another end.

A cosine ends with the run. Resumed with more epochs, it would be stretched over all of them: at the step where the run
goes on, the rate jumps up, and what was learned at a low rate is lost at first.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farfield.errors import FarfieldError
from farfield.training.optimisation import Optimisation
from farfield.training.schedule import lr_factor

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class ScheduleBefore:
    """The schedule of a run until it stopped.

    Attributes:
        step: optimiser steps done.
        total_steps: at which it ends; None where that is not known.
        steps_per_epoch: of the run; None for as many as now.
        run_steps: at which the run was to end, which a kept schedule does before it; None for `total_steps`.
    """

    step: int
    total_steps: int | None
    steps_per_epoch: float | None
    run_steps: int | None = None


def schedule_before(content: Mapping[str, Any]) -> ScheduleBefore:
    """Reads a checkpoint's schedule; from the learning rate at its step, where it is an older one."""
    step = int(content["global_step"])
    saved = content["farfield"].get("schedule")
    if saved:
        return ScheduleBefore(step, saved["total_steps"], saved["steps_per_epoch"], saved.get("run_steps"))
    return ScheduleBefore(step, _total_by_rate(content, step), None)


def _total_by_rate(content: Mapping[str, Any], step: int) -> int | None:
    """Inverts the cosine; None in a warm-up, for other schedules, and for a rate that was constant so far."""
    settings = content["farfield"].get("optimisation", {})
    states = content.get("lr_schedulers") or [{}]
    rates, peaks = states[0].get("_last_lr"), states[0].get("base_lrs")
    if settings.get("schedule") != "cosine" or settings.get("warmup_epochs") or not rates or not peaks or not peaks[0]:
        return None
    fraction = math.acos(min(max(2 * rates[0] / peaks[0] - 1, -1), 1)) / math.pi
    return round(step / fraction) if fraction > 1e-6 else None


def resumed_total_steps(
    before: ScheduleBefore, settings: Optimisation, *, steps_per_epoch: float, total_steps: int
) -> int:
    """Returns where the schedule of a resumed run ends, and says what changes.

    Args:
        before: the schedule until the run stopped.
        settings: of now, with the learning rate in use.
        steps_per_epoch: of now.
        total_steps: at which the run now ends.

    Raises:
        FarfieldError: where the kept schedule has ended and nobody has said what to do: nothing would be learned.
    """
    if settings.schedule != "cosine" or before.total_steps in (None, total_steps):
        return total_steps
    assert before.total_steps is not None
    if before.run_steps == total_steps and settings.schedule_length != "extend":
        return before.total_steps  # the run's end is the same as before it stopped: its schedule was kept then
    own = before.steps_per_epoch or steps_per_epoch
    kept = before.total_steps if own == steps_per_epoch else round(before.total_steps / own * steps_per_epoch)
    if kept == total_steps:  # as many epochs of other batches
        return total_steps

    def rate(total: int, per_epoch: float = steps_per_epoch) -> float:
        return settings.lr * lr_factor(before.step, settings, steps_per_epoch=per_epoch, total_steps=total)

    old, stretched, ends = rate(before.total_steps, own), rate(total_steps), f"{kept / steps_per_epoch:g}"
    said = f"the run was to end after epoch {ends}, and now ends after epoch {total_steps / steps_per_epoch:g}"
    name = "--model.optimisation.schedule_length"
    if settings.schedule_length == "extend":
        log.warning(
            "%s; its schedule is stretched over them (%s extend): at step %d, where it goes on, the learning rate "
            "changes from %.4g to %.4g.",
            said, name, before.step, old, stretched,
        )  # fmt: skip
        return total_steps
    if settings.schedule_length is None and before.step >= kept:
        raise FarfieldError(
            f"{said}; its schedule has ended at a learning rate of {old:.4g}, at which nothing more is learned. Give "
            f"{name} extend to stretch it over the whole run, which raises the rate at step {before.step} from "
            f"{old:.4g} to {stretched:.4g}: what the last epochs gained is lost at first. Or begin a new run from this "
            "one's best.ckpt, with --model.weights and a lower rate."
        )
    after = f" After step {kept} it stays at 0, and nothing more is learned." if kept < total_steps else ""
    log.warning(
        "%s; its schedule is kept (%s keep): at step %d, where it goes on, the learning rate is %.4g; under extend it "
        "would be %.4g.%s",
        said, name, before.step, rate(kept), stretched, after,
    )  # fmt: skip
    return kept
