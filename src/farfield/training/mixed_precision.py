"""Automatic mixed precision (AMP): the precisions that training supports."""

from __future__ import annotations

from lightning.pytorch import Trainer

from farfield.errors import FarfieldError


def check_precision(trainer: Trainer) -> None:
    """Raise for a precision that stores weights in less than float32, which clips, norms and probabilities need."""
    known = ("32-true", "bf16-mixed", "16-mixed")
    if trainer.precision not in known:
        raise FarfieldError(f"precision is {trainer.precision}; it must be one of {', '.join(known)}.")
