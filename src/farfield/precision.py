"""Number formats: of a network in inference, and of automatic mixed precision (AMP) in training and tests.

AMP takes effect in the trainers of `training/config.py` and `evaluation/evaluate.py`; layers opt out by `no_autocast`
of `layers/positions.py`. Imports nothing heavy, since the server's main process imports it.
"""

from typing import Literal

from farfield.errors import FarfieldError

Precision = Literal["float32", "bfloat16", "float16"]
"""Number format of weights and features in inference."""

MIXED_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Values of Lightning's `Trainer(precision=)` that are supported: weights stay in float32."""


def check_mixed_precision(name: str) -> None:
    """Check that a trainer's precision keeps weights in float32, which input clips, norms and probabilities need.

    Raises:
        FarfieldError: if the precision is not one of `MIXED_PRECISIONS`.
    """
    if name not in MIXED_PRECISIONS:
        raise FarfieldError(f"precision is {name}; it must be one of {', '.join(MIXED_PRECISIONS)}.")
