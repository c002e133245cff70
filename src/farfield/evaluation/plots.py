"""Pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor

from farfield.evaluation.calibration import Calibration
from farfield.evaluation.views import AtViews

NAMED_CLASSES = 60
"""More classes than this are drawn without their names, which could not be read."""


def plot_confusion(
    confusion: Int[Tensor, "classes classes"], labels: Sequence[str], path: str | Path | None = None
) -> Figure:
    """Draws a confusion matrix, each row as fractions of its class; saves it as PNG where a path is given."""
    counts = confusion.numpy()
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(labels)
    named = classes <= NAMED_CLASSES
    side = 2.5 + (0.32 * classes if named else 6)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(fractions, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the class")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if named:
        axes.set_xticks(range(classes), labels, rotation=90, parse_math=False)  # a label may hold dollars
        axes.set_yticks(range(classes), labels, parse_math=False)
    if classes <= 25:
        for i, j in zip(*np.nonzero(counts), strict=True):
            shade = "white" if fractions[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=shade, fontsize=8)
    if path is not None:
        with matplotlib.rc_context({"savefig.dpi": 120}):
            figure.savefig(path)
    return figure


def plot_reliability(before: Calibration, after: Calibration | None = None) -> Figure:
    """Draws accuracy over confidence, with the share of videos in each bin below; `after` is with a temperature."""
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    curve, shares = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.plot([0, 1], [0, 1], color="0.7", lw=1, label="perfectly calibrated")
    for each, name, colour in ((before, "as trained", "C0"), (after, "with temperature", "C1")):
        if each is None:
            continue
        videos = sum(part.videos for part in each.bins)
        label = f"{name}: error {100 * each.expected_error:.1f}%"
        curve.plot([b.confidence for b in each.bins], [b.accuracy for b in each.bins], "o-", color=colour, label=label)
        middles = [(b.low + b.high) / 2 for b in each.bins]
        width = each.bins[0].high - each.bins[0].low
        shares.bar(middles, [b.videos / videos for b in each.bins], width, color=colour, alpha=0.5)
    curve.set_ylabel("share that is right")
    curve.set_ylim(0, 1.02)
    curve.legend(fontsize=8)
    curve.grid(alpha=0.3)
    shares.set_xlabel("probability of the predicted class")
    shares.set_ylabel("share of videos")
    return figure


def plot_views(curve: Sequence[AtViews], giga_multiply_adds: float | None = None) -> Figure:
    """Draws top-1 against the number of views, with what they cost above, where a view's cost is given."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    views = [each.views for each in curve]
    axes.fill_between(
        views, [100 * each.top1.low for each in curve], [100 * each.top1.high for each in curve], alpha=0.2, lw=0
    )
    axes.plot(views, [100 * each.top1.value for each in curve], ".-")
    axes.set_xlabel("views averaged")
    axes.set_ylabel("top-1, %")
    axes.grid(alpha=0.3)
    if giga_multiply_adds is not None:
        axes.secondary_xaxis("top", functions=_both_ways(giga_multiply_adds)).set_xlabel("G multiply-adds a video")
    return figure


def _both_ways(factor: float) -> Any:
    return (lambda views: views * factor), (lambda cost: cost / factor)
