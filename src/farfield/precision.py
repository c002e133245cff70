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
    """Check that a value of Lightning's `Trainer(precision=)` is one of `MIXED_PRECISIONS`.

    With any other value, such as "bf16-true", Lightning would also convert clips and the weights of norms, which need
    float32.

    Raises:
        FarfieldError: for any other value.
    """
    if name not in MIXED_PRECISIONS:
        raise FarfieldError(f"precision is {name}; it must be one of {', '.join(MIXED_PRECISIONS)}.")
