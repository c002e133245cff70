"""Check the options of a probe's run, and say on which device and in which precision the frozen network runs."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from farfield.errors import FarfieldError
from farfield.evaluation.manifest_scores import make_trainer
from farfield.precision import check_mixed_precision


def check_probe_options(config: Any) -> None:
    """Check that no option asks for what a probe does not do, before anything is written.

    Raises:
        FarfieldError: for an option that does not apply to a probe.
    """
    conflicts = {
        "model.execution.compile": config.model.execution.compile,
        "model.execution.recompute_stages": bool(config.model.execution.recompute_stages),
        "trainer.devices": config.trainer.devices not in ("auto", 1, "1"),
        "trainer.num_nodes": config.trainer.num_nodes != 1,
    }
    if given := [name for name, value in conflicts.items() if value]:
        raise FarfieldError(
            f"{', '.join(given)} cannot be combined with a probe, which runs on one device. Leave it out."
        )
    of_students = {
        "model.teacher": config.model.teacher,
        "model.teacher_scores": config.model.teacher_scores,
        "data.unlabelled": config.data.unlabelled,
    }
    if given := [name for name, value in of_students.items() if value]:
        raise FarfieldError(
            f"{', '.join(given)} cannot be combined with a probe, whose heads learn from labels only. Leave it out, or "
            "train without --probe."
        )


def probe_trainer(given: Any) -> Trainer:
    """Return a trainer that only has the device and the precision.

    Args:
        given: options of Lightning's Trainer.

    Raises:
        FarfieldError: for an accelerator or a precision that cannot be used.
    """
    trainer = make_trainer(given.accelerator, 1, given.precision, progress=False)
    check_mixed_precision(trainer.precision)
    return trainer
