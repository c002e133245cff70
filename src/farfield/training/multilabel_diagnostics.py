"""Metrics, tables, plots and captions from one validation run of a multilabel task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from farfield.evaluation.class_metrics import (
    DecisionMetrics,
    RankingMetrics,
    Resampling,
    measure_decisions,
    measure_ranking,
)
from farfield.evaluation.curves import measure_curves, plot_precision_recall, plot_roc
from farfield.evaluation.metrics import Estimate
from farfield.evaluation.multilabel_calibration import PairCalibration, pair_calibration
from farfield.evaluation.multilabel_metrics import measure_multilabel
from farfield.evaluation.plots import names_with_numbers, plot_pair_reliability
from farfield.evaluation.resampling import MIN_UNITS
from farfield.models.operating_point import DEFAULT_THRESHOLD
from farfield.reports.page_content import Table
from farfield.reports.read_test_report import MULTILABEL_METRICS

_DRAWS = 200
_MAX_CELLS = 2_000_000
"""Largest number of videos times classes for which confidence intervals are computed; above, they take too long."""


class MultilabelDiagnostics:
    """Diagnostics from one validation run of a multilabel task.

    Args:
        probabilities: class probabilities of each video, without NaN.
        targets: 1 for each class that the video has, else 0.
        labels: class names.
        units: for each video or window, the index of its unit of the bootstrap, from `sampling_units`; None if each
            is a unit.
    """

    def __init__(
        self,
        probabilities: Float[Tensor, "n classes"],
        targets: Float[Tensor, "n classes"],
        labels: Sequence[str],
        units: Int[Tensor, " n"] | None = None,
    ) -> None:
        self.probabilities = probabilities
        self.targets: Bool[Tensor, "n classes"] = targets > 0
        self.labels = labels
        self.decisions = probabilities >= DEFAULT_THRESHOLD
        self.units = torch.arange(len(probabilities)) if units is None else units
        resampling = Resampling(self.units, draws=0)
        if resampling.number_of_units >= MIN_UNITS and targets.numel() <= _MAX_CELLS:
            resampling = Resampling(self.units, _DRAWS)
        self.ranking: RankingMetrics = measure_ranking(probabilities, self.targets, resampling)
        self.by_class: DecisionMetrics = measure_decisions(self.decisions, self.targets, resampling)
        self.calibration: PairCalibration = pair_calibration(probabilities, self.targets)

    def validation_table(self) -> Table:
        """Tabulate the metrics with 95% confidence intervals, and the expected calibration error."""
        found = measure_multilabel(self.ranking, self.decisions, self.targets, self.units)
        rows = [[shown, *_cells(getattr(found, name))] for name, shown in MULTILABEL_METRICS.items()]
        rows += [
            [f"macro {shown} at {DEFAULT_THRESHOLD}", *_cells(getattr(self.by_class, name).macro)]
            for name, shown in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
        ]
        rows.append(["expected calibration error", f"{100 * self.calibration.expected_error:.2f}%", ""])
        rows.append(["videos without a class", f"{100 * found.share_without_class:.2f}%", ""])
        return Table(["validation", "value", "95% interval"], rows)

    def class_table(self) -> Table:
        """Tabulate each class's metrics, the lowest average precision first. Classes without videos are left out."""
        names = names_with_numbers(self.labels)
        positives = self.targets.sum(0).tolist()
        measured = (self.ranking.average_precision, self.by_class.precision, self.by_class.recall)
        rows = [
            [names[label], positives[c], *(_rounded(metric.per_class[c].value) for metric in measured)]
            for c, label in enumerate(self.labels)
            if positives[c]
        ]
        at = f"at {DEFAULT_THRESHOLD}"
        columns = ["class", "videos", "average precision", f"precision {at}", f"recall {at}"]
        return Table(columns, sorted(rows, key=lambda row: row[2]))

    def confusion_table(self) -> None:
        """Return None: classes are predicted independently, so none is confused with another."""

    def plots(self) -> dict[str, Figure]:
        """Draw precision-recall curves, ROC curves and the reliability diagram."""
        curves = measure_curves(self.probabilities, self.targets)
        return {
            "precision_recall": plot_precision_recall(curves, self.ranking, self.labels),
            "roc": plot_roc(curves, self.ranking, self.labels),
            "reliability": plot_pair_reliability(self.calibration),
        }

    def most_confidently_wrong(self, count: int) -> list[tuple[int, str]]:
        """Find the `count` videos with the highest probability of a class that they lack.

        Returns:
            (row of the video in `probabilities`, caption), the highest probability first.
        """
        lacking = self.probabilities.masked_fill(self.targets, -1)
        chances, classes = lacking.max(1)
        found = chances.topk(min(count, int((chances >= 0).sum()))).indices.tolist()
        return [
            (place, f"{self._truth(place)}, but {self.labels[int(classes[place])]} has {float(chances[place]):.0%}")
            for place in found
        ]

    def caption(self, place: int) -> str:
        """Return a caption with true labels and predicted classes, for the video in row `place` of `probabilities`."""
        chosen = self.decisions[place].nonzero()[:, 0].tolist()
        if chosen:
            predicted = ", ".join(f"{self.labels[c]} ({float(self.probabilities[place, c]):.0%})" for c in chosen)
        else:
            best = int(self.probabilities[place].argmax())
            chance = float(self.probabilities[place, best])
            predicted = f"no class (most probable: {self.labels[best]}, {chance:.0%})"
        return f"{self._truth(place)}, predicted as {predicted}"

    def _truth(self, place: int) -> str:
        return ", ".join(self.labels[c] for c in self.targets[place].nonzero()[:, 0].tolist()) or "no class"


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 4)


def _cells(estimate: Estimate) -> list[str]:
    if estimate.value != estimate.value:
        return ["-", ""]
    has_interval = estimate.low == estimate.low
    bounds = f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}" if has_interval else ""
    return [f"{100 * estimate.value:.2f}%", bounds]
