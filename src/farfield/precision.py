"""Number formats: of a network in inference, and of automatic mixed precision (AMP) in training and tests.

AMP takes effect in the trainers of `training/config.py` and `evaluation/evaluate.py`; layers opt out by `no_autocast`
of `layers/positions.py`. Imports nothing heavy, since the server's main process imports it.
"""

from typing import Literal

from farfield.errors import FarfieldError

Precision = Literal["float32", "bfloat16", "float16"]
"""Of weights and features in inference."""

MIXED_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Values of Lightning's `Trainer(precision=)` that are supported: weights stay in single precision."""


def check_mixed_precision(name: str) -> None:
    """Check that a trainer keeps weights in single precision, which clips, norms and probabilities need.

    Raises:
        FarfieldError: if it does not.
    """
    if name not in MIXED_PRECISIONS:
        raise FarfieldError(f"precision is {name}; it must be one of {', '.join(MIXED_PRECISIONS)}.")
