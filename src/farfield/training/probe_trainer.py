"""Check the options of a probe, and create its Lightning Trainer.

The Trainer trains nothing: it chooses the device and the precision in which the frozen network computes features.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from farfield.errors import FarfieldError
from farfield.evaluation.manifest_scores import make_trainer
from farfield.precision import check_mixed_precision


def check_probe_options(config: Any) -> None:
    """Check, before anything is written, that a probe supports all options that are set.

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
            f"{', '.join(given)} cannot be combined with a probe, which runs on one device. Remove {_these(given)}."
        )
    of_students = {
        "model.teacher": config.model.teacher,
        "model.teacher_scores": config.model.teacher_scores,
        "data.unlabelled": config.data.unlabelled,
    }
    if given := [name for name, value in of_students.items() if value]:
        raise FarfieldError(
            f"{', '.join(given)} cannot be combined with a probe, whose heads learn from labels only. "
            f"Remove {_these(given)}, or train without --probe."
        )


def _these(options: list[str]) -> str:
    return "these options" if len(options) > 1 else "this option"


def probe_trainer(given: Any) -> Trainer:
    """Create the Lightning trainer that runs the frozen network, on one device.

    Args:
        given: options of Lightning's Trainer. Only `accelerator` and `precision` are used.

    Raises:
        FarfieldError: for an accelerator or a precision that cannot be used.
    """
    trainer = make_trainer(given.accelerator, 1, given.precision, progress=False)
    check_mixed_precision(trainer.precision)
    return trainer
