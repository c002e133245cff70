"""Plots of a test's results: confusion matrix, reliability diagrams, accuracy by number of views."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from farfield.evaluation.accuracy_by_views import AccuracyAtViews
from farfield.evaluation.calibration import Calibration
from farfield.evaluation.multilabel_calibration import PairCalibration
from farfield.evaluation.precision_by_views import PrecisionAtViews
from farfield.fonts import draw_text, shown_names

NAMED_CLASSES = 40
"""Maximum number of classes for which the confusion matrix shows names.

With more classes, reports instead list the most frequent confusions (`confused_pairs`).
"""
_CELL_INCHES = 0.34
_LINE = 44
"""Maximum number of characters in one line of a class name. A name has at most two lines, which fit beside a cell."""


def plot_confusion(
    confusion: Int[Tensor, "classes classes"], labels: Sequence[str], path: str | Path | None = None
) -> Figure:
    """Draw a confusion matrix, with each row divided by its sum.

    The figure grows with the number of classes and the length of their names. A name with a character that no installed
    font has is drawn as "class NUMBER", where NUMBER is the index of the class, from 0. With more than `NAMED_CLASSES`
    classes, the axes show no names.

    Args:
        confusion: number of videos for each true class (row) and predicted class (column).
        labels: class names.
        path: file to save the figure to; None to save nothing.
    """
    counts = confusion.numpy()
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(labels)
    named = classes <= NAMED_CLASSES
    side = max(_CELL_INCHES * classes, 1.6) if named else 6.5
    figure = Figure(figsize=(side, side))
    axes, bar = figure.add_axes((0, 0, 1, 1)), figure.add_axes((0, 0, 1, 1))
    image = axes.imshow(fractions, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    figure.colorbar(image, cax=bar, label="fraction of the class")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if named:
        names = [wrap(name) for name in shown_names(labels)]
        text = {"fontsize": 8.5, **draw_text("".join(names))}
        axes.set_xticks(range(classes), names, rotation=90, **text)
        axes.set_yticks(range(classes), names, **text)
    if classes <= 25:
        for i, j in zip(*np.nonzero(counts), strict=True):
            shade = "white" if fractions[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=shade, fontsize=8)
    fit_figure(figure, {axes: (0, 0, side, side), bar: (side + 0.25, 0, 0.18, side)})
    if path is not None:
        with matplotlib.rc_context({"savefig.dpi": 120}):
            figure.savefig(path)
    return figure


def wrap(name: str) -> str:
    """Wrap a name into at most two lines."""
    lines = textwrap.wrap(" ".join(name.split()), _LINE, max_lines=2, placeholder="…")
    return "\n".join(lines)


def fit_figure(figure: Figure, places: Mapping[Axes, tuple[float, float, float, float]], margin: float = 0.1) -> None:
    """Resize a figure to fit all its content. Constrained layout would shrink the axes instead.

    Args:
        figure: figure to resize in place.
        places: (left, bottom, width, height) of each axes in inches, relative to any common origin.
        margin: margin around the content, in inches.
    """
    size = figure.get_size_inches()
    for axes, (left, bottom, width, height) in places.items():
        axes.set_position((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())  # in inches
    across, up = box.width + 2 * margin, box.height + 2 * margin
    figure.set_size_inches(across, up)
    for axes, (left, bottom, width, height) in places.items():
        left, bottom = left - box.x0 + margin, bottom - box.y0 + margin
        axes.set_position((left / across, bottom / up, width / across, height / up))


def names_with_numbers(labels: Sequence[str]) -> dict[str, str]:
    """Map each label to the text that tables show for it: the label or "LABEL (class NUMBER)".

    The number is added to a label with a character that no installed font has. Plots show "class NUMBER" instead of
    such a label. NUMBER is the index of the class, from 0.
    """
    return {
        label: label if shown == label else f"{label} ({shown})"
        for label, shown in zip(labels, shown_names(labels), strict=True)
    }


def confused_pairs(
    confusion: Int[Tensor, "classes classes"], labels: Sequence[str], most: int = 30
) -> list[dict[str, Any]]:
    """List the pairs of classes that are confused most often (at most `most`), the most frequent first.

    Returns:
        For each pair: label (true class), predicted (predicted class), videos (number of videos confused) and share
        (fraction of the true class's videos).
    """
    wrong = confusion.clone()
    wrong.fill_diagonal_(0)
    totals = confusion.sum(1)
    places = wrong.flatten().argsort(descending=True, stable=True)[:most].tolist()
    pairs = [divmod(place, len(labels)) for place in places]
    return [
        {
            "label": labels[i],
            "predicted": labels[j],
            "videos": int(wrong[i, j]),
            "share": float(wrong[i, j] / totals[i]),
        }
        for i, j in pairs
        if wrong[i, j]
    ]


def plot_reliability(before: Calibration, after: Calibration | None = None) -> Figure:
    """Draw a reliability diagram, and below it the share of videos in each bin.

    Args:
        before: calibration without temperature scaling.
        after: calibration with temperature scaling; None to draw only `before`.
    """
    return _plot_reliability(
        [
            (each.expected_error, [(b.low, b.high, b.videos, b.confidence, b.accuracy) for b in each.bins])
            for each in (before, after)
            if each is not None
        ],
        across="probability of the predicted class",
        up="accuracy",
        counted="videos",
    )


def plot_pair_reliability(before: PairCalibration, after: PairCalibration | None = None) -> Figure:
    """Draw the reliability diagram of all (video, class) pairs, and below it the share of pairs in each bin.

    Args:
        before: calibration without temperature scaling.
        after: calibration with temperature scaling; None to draw only `before`.
    """
    return _plot_reliability(
        [
            (each.expected_error, [(b.low, b.high, b.pairs, b.probability, b.frequency) for b in each.bins])
            for each in (before, after)
            if each is not None
        ],
        across="probability of a class",
        up="share of videos that have the class",
        counted="pairs",
    )


def _plot_reliability(
    calibrations: Sequence[tuple[float, Sequence[tuple[float, float, int, float, float]]]],
    *,
    across: str,
    up: str,
    counted: str,
) -> Figure:
    """Draw a reliability diagram of one or two calibrations, the second with temperature scaling.

    Args:
        calibrations: (expected calibration error, bins) of each calibration. A bin is (low edge, high edge, number of
            cases, mean probability of the cases, share of the cases that are true).
        across: label of the horizontal axis, which shows the mean probability.
        up: label of the vertical axis of the diagram, which shows the share of true cases.
        counted: plural noun for the cases in axis labels, such as "videos".
    """
    figure = Figure(figsize=(4.6, 5.2))
    curve, shares = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.subplots_adjust(left=0.16, right=0.96, bottom=0.1, top=0.98, hspace=0.08)  # faster than a layout engine
    curve.plot([0, 1], [0, 1], color="0.7", lw=1, label="perfectly calibrated")
    for (error, bins), name, colour in zip(
        calibrations, ("as trained", "with temperature"), ("C0", "C1"), strict=False
    ):
        low, high, counts, probabilities, frequencies = zip(*bins, strict=True)
        label = f"{name}: error {100 * error:.1f}%"
        curve.plot(probabilities, frequencies, "o-", color=colour, label=label)
        middles = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        total = sum(counts)
        shares.bar(middles, [count / total for count in counts], high[0] - low[0], color=colour, alpha=0.5)
    curve.set_ylabel(up)
    curve.set_ylim(0, 1.02)
    curve.legend(fontsize=8)
    curve.grid(alpha=0.3)
    shares.set_xlabel(across)
    shares.set_ylabel(f"share of {counted}")
    return figure


def plot_views(curve: Sequence[AccuracyAtViews], giga_multiply_adds: float | None = None) -> Figure:
    """Plot top-1 accuracy against the number of views.

    Args:
        curve: top-1 accuracy for each number of views.
        giga_multiply_adds: cost of one view in 10^9 multiply-adds. If given, an axis at the top shows the cost per
            video.
    """
    figure = Figure(figsize=(5.6, 3.6))
    axes = figure.add_subplot()
    views = [each.views for each in curve]
    axes.fill_between(
        views, [100 * each.top1.low for each in curve], [100 * each.top1.high for each in curve], alpha=0.2, lw=0
    )
    axes.plot(views, [100 * each.top1.value for each in curve], ".-")
    axes.set_xlabel("views aggregated")
    axes.set_ylabel("top-1, %")
    _finish_views(figure, axes, giga_multiply_adds)
    return figure


def plot_precision_by_views(curve: Sequence[PrecisionAtViews], giga_multiply_adds: float | None = None) -> Figure:
    """Plot the mean average precision against the number of views, see `plot_views`."""
    figure = Figure(figsize=(5.6, 3.6))
    axes = figure.add_subplot()
    axes.plot([each.views for each in curve], [100 * each.mean_average_precision for each in curve], ".-")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("views aggregated")
    axes.set_ylabel("mean average precision, %")
    _finish_views(figure, axes, giga_multiply_adds)
    return figure


def _finish_views(figure: Figure, axes: Axes, giga_multiply_adds: float | None) -> None:
    axes.grid(alpha=0.3)
    figure.subplots_adjust(left=0.16, right=0.96, bottom=0.15, top=0.96 if giga_multiply_adds is None else 0.83)
    if giga_multiply_adds is not None:
        conversions = _scale_and_inverse(giga_multiply_adds)
        axes.secondary_xaxis("top", functions=conversions).set_xlabel("G multiply-adds per video")


def _scale_and_inverse(factor: float) -> Any:
    return (lambda views: views * factor), (lambda cost: cost / factor)
