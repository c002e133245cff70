"""Validation metrics. They determine the best checkpoint of a run, and when to stop the run early."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from farfield.evaluation.class_metrics import mean_average_precision
from farfield.evaluation.metrics import Metrics, measure
from farfield.models.network import ActionNet
from farfield.scoring.joint_ranking import joint_hits
from farfield.task import split_heads

TOP1: Final = "val/top1"
TOP5: Final = "val/top5"
MEAN_CLASS_ACCURACY: Final = "val/mean_class_accuracy"
MAP: Final = "val/map"
LOSS: Final = "val/loss"


def validation_figures(
    network: ActionNet,
    probabilities: Float[Tensor, "n classes"],
    targets: Int[Tensor, " n"] | Float[Tensor, "n classes"],
) -> tuple[dict[str, float], Tensor | None]:
    """Compute the metrics of a network's task, by name, and the confusion matrix.

    The confusion matrix is None unless the task is `single_label`.
    """
    if network.task == "multilabel":
        return multilabel_figures(probabilities, targets), None
    if network.task == "multi_head":
        return multi_head_figures(probabilities, targets, split_heads(network.labels)), None
    figures, metrics = single_label_figures(probabilities, targets)
    return figures, metrics.confusion


def single_label_figures(
    probabilities: Float[Tensor, "n classes"], targets: Int[Tensor, " n"]
) -> tuple[dict[str, float], Metrics]:
    """Compute the validation metrics of a single-label task.

    Returns:
        A dict with the keys "val/top1", "val/top5", "val/mean_class_accuracy", "val/map" and "val/loss"; and a
        `Metrics` with the confusion matrix. The loss is the cross entropy, infinite if the probability of a video's own
        class is NaN.
    """
    metrics = measure(probabilities, targets)
    loss = F.nll_loss(probabilities.clamp_min(1e-12).log(), targets)
    is_class = F.one_hot(targets, probabilities.shape[1]).bool()
    return {
        TOP1: metrics.top1.value,
        TOP5: metrics.top5.value,
        MEAN_CLASS_ACCURACY: metrics.mean_class_accuracy.value,
        MAP: _map(probabilities, is_class),
        LOSS: _or_infinite(loss),
    }, metrics


def multilabel_figures(
    probabilities: Float[Tensor, "n classes"], targets: Float[Tensor, "n classes"]
) -> dict[str, float]:
    """Compute the validation metrics of a multilabel task: mean average precision "val/map" and loss "val/loss".

    The loss is the binary cross entropy, averaged over videos and classes, infinite if a probability is NaN.
    """
    p, t = probabilities.double(), targets.double()
    loss = -(t * p.clamp_min(1e-12).log() + (1 - t) * (1 - p).clamp_min(1e-12).log()).mean()
    return {MAP: _map(probabilities, targets > 0), LOSS: _or_infinite(loss)}


def head_figures(network: ActionNet) -> tuple[str, ...]:
    """Return the name of each head's metric, "val/top1_HEAD", for a `multi_head` network; empty for other tasks."""
    return tuple(f"{TOP1}_{head}" for head in split_heads(network.labels)) if network.task == "multi_head" else ()


def multi_head_figures(
    probabilities: Float[Tensor, "n classes"], targets: Float[Tensor, "n classes"], heads: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Compute the validation metrics of a `multi_head` task.

    A combination has one class of each head. Combinations are ranked by the product of their classes' probabilities. A
    combination is correct if all its classes are correct.

    Returns:
        By name: "val/top1" and "val/top5", the accuracies of the combinations; "val/top1_HEAD" for each head; and
        "val/loss", the cross entropy, averaged over videos and heads, infinite if a probability is NaN.
    """
    sizes = [len(names) for names in heads.values()]
    of_heads, classes = probabilities.split(sizes, 1), [each.argmax(1) for each in targets.split(sizes, 1)]
    hits = joint_hits(of_heads, torch.stack(classes, 1), 5)
    loss = -(targets * probabilities.clamp_min(1e-12).log()).sum(1).mean() / len(sizes)
    figures = {
        TOP1: float(hits[:, 0].float().mean()),
        TOP5: float(hits.any(1).float().mean()),
        LOSS: _or_infinite(loss),
    }
    for head, scores, wanted in zip(heads, of_heads, classes, strict=True):
        figures[f"{TOP1}_{head}"] = float((scores.argmax(1) == wanted).float().mean())
    return figures


def _map(probabilities: Tensor, targets: Tensor) -> float:
    """Return the mean average precision; 0 if a probability is NaN, or no video has a label."""
    if not probabilities.isfinite().all() or not targets.any():
        return 0.0
    return mean_average_precision(probabilities, targets)


def _or_infinite(loss: Tensor) -> float:
    return math.inf if loss.isnan() else float(loss)
