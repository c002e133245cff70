from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from evaluation.test_resampling import KINDS, scored
from farfield.evaluation.class_metrics import RankingMetrics, Resampling, measure_ranking
from farfield.evaluation.curves import POINTS, Curves, measure_curves, plot_precision_recall, plot_roc


def measured(kind: str, n: int = 53, classes: int = 5) -> tuple[Curves, RankingMetrics]:
    scores, targets = scored(kind, n, classes)
    return measure_curves(scores, targets), measure_ranking(scores, targets, Resampling(torch.arange(n), draws=0))


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_on_scikit_learns_curves(kind: str) -> None:
    scores, targets = scored(kind)
    curves = measure_curves(scores, targets)
    for c in range(5):
        column = targets[:, c].numpy(), scores[:, c].numpy()
        precision, recall, _ = precision_recall_curve(*column)
        for place in range(0, POINTS, 7):
            reached = [p for p, r in zip(precision[:-1], recall[:-1], strict=True) if r >= curves.grid[place]]
            assert curves.precision[c, place] == pytest.approx(reached[-1], abs=1e-6)
        if targets[:, c].all():
            assert np.isnan(curves.true_positive_rate[c]).all()
        else:
            false_rate, true_rate, _ = roc_curve(*column, drop_intermediate=False)
            wanted = np.interp(curves.grid, false_rate, true_rate)
            assert curves.true_positive_rate[c] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("kind", ["random", "ties", "one positive"])
def test_the_mean_of_the_points_is_the_metric(kind: str) -> None:
    curves, ranking = measured(kind)
    for rows, metric in (
        (curves.precision, ranking.average_precision),
        (curves.true_positive_rate, ranking.roc_auc),
    ):
        assert rows.mean(1) == pytest.approx([each.value for each in metric.per_class], abs=0.01)


def test_a_class_without_positives_has_no_curve() -> None:
    scores, targets = scored("random")
    targets[:, 3] = False
    curves = measure_curves(scores, targets)
    for rows in (curves.precision, curves.true_positive_rate):
        assert np.isnan(rows).any(1).tolist() == [False, False, False, True, False]


def legend_of(figure: Figure) -> list[str]:
    FigureCanvasAgg(figure).draw()
    legend = figure.axes[0].get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("plot", [plot_precision_recall, plot_roc])
def test_up_to_ten_classes_are_named_and_the_mean_is_bold(plot) -> None:
    curves, ranking = measured("random")
    figure = plot(curves, ranking, ["bow", "cost $5", "run", "jump", "w" * 130])
    names = legend_of(figure)
    assert [name.split(":")[0] for name in names] == [
        "bow", "cost $5", "run", "jump", "w" * 39 + "…", "mean of the classes"
    ]  # fmt: skip
    widths = {line.get_label().split(":")[0]: line.get_linewidth() for line in figure.axes[0].lines}
    assert widths["mean of the classes"] > 2 * widths["bow"] - 0.1
    box, canvas = figure.axes[0].get_legend().get_window_extent(), figure.bbox
    assert canvas.x0 <= box.x0 < box.x1 <= canvas.x1


@pytest.mark.parametrize("plot", [plot_precision_recall, plot_roc])
def test_of_more_classes_the_ten_hardest_are_named_and_the_others_grey(plot) -> None:
    curves, ranking = measured("random", n=101, classes=23)
    figure = plot(curves, ranking, [f"class {c}" for c in range(23)])
    values = [each.value for each in ranking.average_precision.per_class]
    hardest = sorted(np.argsort(values)[:10].tolist())
    assert [name.split(":")[0] for name in legend_of(figure)[:-1]] == [f"class {c}" for c in hardest]
    assert sum(line.get_color() == "0.75" for line in figure.axes[0].lines) == 13
    assert figure.axes[0].get_legend().get_title().get_text() == "lowest 10 of 23 classes"


def test_nothing_to_draw() -> None:
    scores, targets = torch.rand(7, 3), torch.zeros(7, 3, dtype=torch.bool)
    ranking = measure_ranking(scores, targets, Resampling(torch.arange(7), draws=0))
    assert legend_of(plot_roc(measure_curves(scores, targets), ranking, ["a", "b", "c"])) == []
