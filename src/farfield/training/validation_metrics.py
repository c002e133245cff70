"""The figures of a validation, by which a run chooses its best checkpoint and stops early."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farfield.evaluation.class_metrics import mean_average_precision
from farfield.evaluation.metrics import Metrics, measure

ACCURACIES = ("val/top1", "val/top5", "val/mean_class_accuracy")
"""Figures that only a task with one class a video has."""


def single_label_figures(
    probabilities: Float[Tensor, "n classes"], targets: Float[Tensor, " n"]
) -> tuple[dict[str, float], Metrics]:
    """Compute loss, accuracies and mean average precision, and the metrics with the confusion matrix.

    The loss is the cross entropy, infinite if a probability is NaN.
    """
    metrics = measure(probabilities, targets)
    values = (metrics.top1.value, metrics.top5.value, metrics.mean_class_accuracy.value)
    loss = F.nll_loss(probabilities.clamp_min(1e-12).log(), targets)
    is_class = F.one_hot(targets, probabilities.shape[1]).bool()
    return {
        **dict(zip(ACCURACIES, values, strict=True)),
        "val/map": _map(probabilities, is_class),
        "val/loss": _or_infinite(loss),
    }, metrics


def multilabel_figures(
    probabilities: Float[Tensor, "n classes"], targets: Float[Tensor, "n classes"]
) -> dict[str, float]:
    """Compute the loss and the mean average precision.

    The loss is the binary cross entropy, averaged over videos and classes, infinite if a probability is NaN.
    """
    loss = F.binary_cross_entropy(probabilities, targets) if probabilities.isfinite().all() else torch.tensor(math.nan)
    return {"val/map": _map(probabilities, targets > 0), "val/loss": _or_infinite(loss)}


def _map(probabilities: Tensor, targets: Tensor) -> float:
    """Return the mean average precision; 0 if a probability is NaN, or no video has a class."""
    if not probabilities.isfinite().all() or not targets.any():
        return 0.0
    return mean_average_precision(probabilities, targets)


def _or_infinite(loss: Tensor) -> float:
    return math.inf if loss.isnan() else float(loss)
