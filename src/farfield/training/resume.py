"""Resume a run from its last checkpoint."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from farfield.checkpoints.checkpoint import checkpoint_metadata, read_checkpoint
from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.task import DEFAULT_TASK
from farfield.training.lightning_module import TrainingModule
from farfield.training.schedule import previous_schedule

log = logging.getLogger("farfield")

FIXED_SETTINGS = ("optimizer", "freeze_through", "freeze_batch_norm", "layer_decay")
"""Settings that a resumed run cannot change, because the optimiser's state depends on them."""


def prepare_resume(checkpoint: Path, model: TrainingModule) -> int:
    """Check that a run can resume from a checkpoint, and set `model.previous_schedule` to the checkpoint's schedule.

    Returns:
        The number of optimiser steps already done.

    Raises:
        FarfieldError: if the checkpoint has a different network, a different teacher, or different values of the
            `FIXED_SETTINGS` (such as `optimizer` and `freeze_through`); or if the checkpoint has averaged weights, but
            `ema_decay` is not set.
    """
    content = read_checkpoint(checkpoint)
    found, wanted = content["farfield"]["model"], checkpoint_metadata(model.network)["model"]
    if "current_model_state" in content and model.optimisation.ema_decay is None:
        raise FarfieldError(
            f"{checkpoint} was trained with optimisation.ema_decay, which is not set now: training would resume from "
            "the averaged weights. Set optimisation.ema_decay as in the first run."
        )
    found.setdefault("task", DEFAULT_TASK)  # earlier versions had no other task
    found.setdefault("head_options", {})  # of heads that earlier versions did not have
    found["clip"] = ClipSpec.from_dict(found["clip"]).to_dict()  # earlier versions had fewer settings
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        shown = "; ".join(f"{name} was {found.get(name)}, now {wanted[name]}" for name in differing)
        raise FarfieldError(
            f"{checkpoint} is of a different network: {shown}. Resume with the same network, or give another run_dir."
        )
    saved = content["farfield"]
    taught = {} if model.distiller is None else model.distiller.provenance
    _check_teacher(checkpoint, saved.get("distillation", {}), taught)
    now = asdict(model.optimisation) | asdict(model.loss) | taught
    # Older checkpoints do not say.
    before = saved.get("optimisation", {}) | saved.get("loss", {}) | saved.get("distillation", {})
    changed = [name for name in before if name in now and before[name] != now[name]]
    shown = "; ".join(f"{name} was {before[name]}, now {now[name]}" for name in changed)
    if fixed := [name for name in changed if name in FIXED_SETTINGS]:
        raise FarfieldError(
            f"{checkpoint} was trained with different settings: {shown}. The optimiser's state depends on "
            f"{', '.join(fixed)}: resume with the same values, or give another run_dir."
        )
    if changed:
        log.info("resuming with changed settings: %s", shown)
    model.previous_schedule = previous_schedule(content)
    return model.previous_schedule.step


def _check_teacher(checkpoint: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that the run's teacher is that of the checkpoint, since the loss would otherwise change abruptly.

    Args:
        checkpoint: path, for the message.
        before: the teacher that the checkpoint was trained with: its path as "teacher", and its content hash as
            "teacher_hash"; empty for no teacher.
        now: the teacher of the current run, in the same form as `before`.

    Raises:
        FarfieldError: if the content hashes differ.
    """
    if before.get("teacher_hash") == now.get("teacher_hash"):
        return
    shown = [f"{each['teacher']} ({each['teacher_hash']})" if each else "no teacher" for each in (before, now)]
    raise FarfieldError(
        f"{checkpoint} was trained with another teacher: {shown[0]}; the teacher is now {shown[1]}. Resume with the "
        "same teacher, or give another run_dir."
    )
