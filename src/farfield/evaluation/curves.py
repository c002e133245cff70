"""Precision-recall and ROC curves of classes, as values on a grid, and their plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

from farfield.evaluation.class_metrics import RankingMetrics
from farfield.evaluation.plots import fit_figure
from farfield.fonts import draw_text, shown_names

POINTS = 512  # a power of two: the midpoints are no k / n of fewer than 1,024 videos, where a curve may be vertical
NAMED_CURVES = 10
"""Maximum number of classes whose curves have a name and a colour; the others are grey."""
PLACE = (0, 0, 5, 4)
"""Left, bottom, width and height of the axes in inches. The legend stands beside them."""


@dataclass(frozen=True)
class Curves:
    """Precision-recall and ROC curve of each class on a grid; NaN for a class whose curve is not defined.

    The grid consists of the midpoints of `POINTS` equal parts of [0, 1]. Therefore the mean of `precision[c]`
    approximates the average precision of class c, and the mean of `true_positive_rate[c]` approximates the area under
    its ROC curve.

    Attributes:
        grid: recalls at which `precision` is given, and false positive rates at which `true_positive_rate` is given.
        precision: for each class and recall in `grid`, the precision at the highest threshold with at least this
            recall.
        true_positive_rate: for each class and false positive rate in `grid`, the recall, interpolated linearly.
    """

    grid: Float[np.ndarray, " points"]
    precision: Float[np.ndarray, "classes points"]
    true_positive_rate: Float[np.ndarray, "classes points"]


def measure_curves(scores: Float[Tensor, "n classes"], targets: Bool[Tensor, "n classes"]) -> Curves:
    """Compute the precision-recall and ROC curves of each class.

    Args:
        scores: probabilities, in [0, 1].
        targets: True where the video has the class.
    """
    grid = (np.arange(POINTS) + 0.5) / POINTS
    precision, rate = (np.full((targets.shape[1], POINTS), np.nan) for _ in range(2))
    columns, wanted = scores.clamp(0, 1).T.contiguous(), targets.T.long().contiguous()
    for c in targets.any(0).nonzero().flatten().tolist():
        curve = binary_precision_recall_curve(columns[c], wanted[c], validate_args=False)
        # torchmetrics ends with recall 0 and precision 1, which is no threshold's.
        at_threshold, recall = (each[:-1].flip(0).double().numpy() for each in curve[:2])
        precision[c] = at_threshold[np.searchsorted(recall, grid)]
        if not wanted[c].all():
            false_rate, true_rate, _ = binary_roc(columns[c], wanted[c], validate_args=False)
            rate[c] = np.interp(grid, false_rate.numpy(), true_rate.numpy())
    return Curves(grid, precision, rate)


def plot_precision_recall(curves: Curves, ranking: RankingMetrics, labels: Sequence[str]) -> Figure:
    """Plot the precision-recall curve of each class, and the mean of these curves (bold).

    At most `NAMED_CURVES` curves are named: those of the classes with the lowest average precision. The others are
    grey.

    Args:
        curves: curves to plot.
        ranking: metrics of each class. The average precision is shown beside the class names.
        labels: class names.
    """
    figure, axes = _axes("recall", "precision")
    metric = ranking.average_precision
    values = [each.value for each in metric.per_class]
    _draw(axes, curves.grid, curves.precision, values, labels, hardest=values)
    mean = f"mean of the classes: AP {100 * metric.macro.value:.1f}%"
    _draw_mean(axes, curves.grid, curves.precision, mean)
    fit_figure(figure, {axes: PLACE})
    return figure


def plot_roc(curves: Curves, ranking: RankingMetrics, labels: Sequence[str]) -> Figure:
    """Plot the ROC curve of each class (true against false positive rate), and the mean of these curves (bold).

    At most `NAMED_CURVES` curves are named: those of the classes with the lowest average precision, as in
    `plot_precision_recall`, not with the lowest ROC-AUC. The others are grey.

    Args:
        curves: curves to plot.
        ranking: metrics of each class. The ROC-AUC is shown beside the class names.
        labels: class names.
    """
    figure, axes = _axes("false positive rate", "true positive rate (recall)")
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls=":")
    metric = ranking.roc_auc
    values = [each.value for each in metric.per_class]
    hardest = [each.value for each in ranking.average_precision.per_class]
    grid = np.pad(curves.grid, 1, constant_values=(0, 1))
    rates = np.pad(curves.true_positive_rate, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))  # from 0 to 1
    _draw(axes, grid, rates, values, labels, hardest=hardest)
    _draw_mean(axes, grid, rates, f"mean of the classes: area {100 * metric.macro.value:.1f}%")
    fit_figure(figure, {axes: PLACE})
    return figure


def _axes(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return figure, axes


def _draw(
    axes: Axes,
    grid: Float[np.ndarray, " points"],
    rows: Float[np.ndarray, "classes points"],
    values: Sequence[float],
    labels: Sequence[str],
    *,
    hardest: Sequence[float],
) -> None:
    names = shown_names(labels)
    defined = [c for c, value in enumerate(values) if not np.isnan(value)]
    named = sorted(defined, key=lambda c: hardest[c])[:NAMED_CURVES]
    for c in sorted(set(defined) - set(named)):
        axes.plot(grid, rows[c], color="0.75", lw=0.5, alpha=0.6)
    for place, c in enumerate(sorted(named)):
        name = names[c] if len(names[c]) <= 40 else names[c][:39] + "…"
        axes.plot(grid, rows[c], color=f"C{place}", lw=1.2, label=f"{name}: {100 * values[c]:.1f}%")


def _draw_mean(
    axes: Axes, grid: Float[np.ndarray, " points"], rows: Float[np.ndarray, "classes points"], label: str
) -> None:
    defined = rows[~np.isnan(rows).any(1)]
    if len(defined):
        axes.plot(grid, defined.mean(0), color="black", lw=2.5, label=label)
        title = f"lowest {NAMED_CURVES} of {len(defined)} classes" if len(defined) > NAMED_CURVES else None
        legend = axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8, borderaxespad=0)
        for text in legend.get_texts():
            text.set(**draw_text(text.get_text()))
