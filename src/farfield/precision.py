"""Number formats for inference, and for automatic mixed precision (AMP) in training and tests.

Lightning's trainers, made in `training/config.py` and `evaluation/manifest_scores.py`, switch AMP on. A layer switches
it off by `no_autocast` of `layers/positions.py`. This file must not import PyTorch, because the server's main process
imports this file.
"""

from typing import Literal

from farfield.errors import FarfieldError

Precision = Literal["float32", "bfloat16", "float16"]
"""Number format of weights and features in inference."""

MIXED_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Values of Lightning's `Trainer(precision=)` that are supported: weights stay in float32."""


def check_mixed_precision(name: str) -> None:
    """Check that a trainer's precision keeps weights in float32. Clips, norms and probabilities need float32, too.

    Raises:
        FarfieldError: if the precision is not one of `MIXED_PRECISIONS`.
    """
    if name not in MIXED_PRECISIONS:
        raise FarfieldError(f"precision is {name}; it must be one of {', '.join(MIXED_PRECISIONS)}.")
