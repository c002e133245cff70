"""What a network answers about a clip, and the probabilities that its scores stand for."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Task = Literal["single_label", "multilabel"]
"""single_label: exactly one of the classes; the softmax of the scores is their probability.

multilabel: any number of the classes, or none; the sigmoid of each score is its class's probability.
"""


DEFAULT_TASK: Task = "single_label"


def least_classes(task: Task) -> int:
    """Return the smallest number of classes that a network of this task can have."""
    return 1 if task == "multilabel" else 2


def class_probabilities(logits: Float[Tensor, "*b classes"], task: Task) -> Float[Tensor, "*b classes"]:
    """Turn scores into class probabilities, in float32 or, for float64 scores, float64."""
    logits = logits if logits.dtype.itemsize >= 4 else logits.float()
    return logits.sigmoid() if task == "multilabel" else logits.softmax(-1)
