"""The validation metric that chooses best.ckpt and stops training early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from farfield.errors import FarfieldError
from farfield.task import Task
from farfield.training.validation_metrics import LOSS, MAP, TOP1

Monitor = Literal["val/top1", "val/mean_class_accuracy", "val/map", "val/loss"]
MONITORS: dict[Task, tuple[Monitor, ...]] = {
    "single_label": get_args(Monitor),
    "multilabel": (MAP, LOSS),
    "multi_head": (TOP1, LOSS),
}
"""Metrics that may choose best.ckpt, for each task; the first is the default."""
EARLY_STOPPING: Monitor = "val/loss"
"""Metric for early stopping if none is chosen."""

UNEVEN = 3
"""Classes are called uneven if the largest class has more than this many times the videos of the smallest."""


def best_monitor(given: Monitor | None, task: Task) -> Monitor:
    """Return the metric that chooses best.ckpt: `given`, or by default top-1 (mAP for a multilabel task).

    Raises:
        FarfieldError: for a metric that the task does not have.
    """
    allowed = MONITORS[task]
    if given is not None and given not in allowed:
        raise FarfieldError(
            f"monitor is '{given}', which is not a metric of task '{task}'. Choose {' or '.join(allowed)}."
        )
    return given or allowed[0]


def best_mode(monitor: str) -> Literal["min", "max"]:
    """Return "min" for a loss, which is better if lower, and "max" for any other metric."""
    return "min" if monitor.endswith("loss") else "max"


def format_metric(monitor: str, value: float) -> str:
    """Format a metric's value: a loss as a number, any other metric in per cent."""
    return f"{value:.4g}" if best_mode(monitor) == "min" else f"{100 * value:.1f}%"


def uneven_classes_hint(labels: Sequence[str], counts: Sequence[int]) -> str | None:
    """Return a hint to set `monitor` to val/mean_class_accuracy if classes are uneven; None otherwise.

    Classes are uneven if the largest has more than `UNEVEN` times as many training videos as the smallest.

    Args:
        labels: class names.
        counts: number of training videos of each class; classes without videos are ignored.
    """
    videos = {label: count for label, count in zip(labels, counts, strict=True) if count}
    largest, smallest = max(videos, key=videos.__getitem__), min(videos, key=videos.__getitem__)
    if videos[largest] <= UNEVEN * videos[smallest]:
        return None
    return (
        f"classes are uneven: {largest!r} has {videos[largest]} training videos, {smallest!r} has {videos[smallest]}. "
        "best.ckpt is chosen by val/top1, in which large classes count most; --monitor val/mean_class_accuracy counts "
        "all classes equally"
    )
