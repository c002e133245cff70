"""Automatic mixed precision (AMP): the precisions that training supports."""

from __future__ import annotations

from lightning.pytorch import Trainer

from farfield.errors import FarfieldError


def check_precision(trainer: Trainer) -> None:
    """Raises where weights would not be in single precision, in which clips, norms and probabilities are."""
    known = ("32-true", "bf16-mixed", "16-mixed")
    if trainer.precision not in known:
        raise FarfieldError(f"precision is {trainer.precision}; it must be one of {', '.join(known)}.")
