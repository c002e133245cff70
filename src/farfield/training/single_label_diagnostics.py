"""Metrics, tables, plots and captions from one validation run of a single-label task (one class per video)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from farfield.evaluation.calibration import calibration
from farfield.evaluation.group_intervals import measure_in_units
from farfield.evaluation.plots import (
    NAMED_CLASSES,
    confused_pairs,
    names_with_numbers,
    plot_confusion,
    plot_reliability,
)
from farfield.reports.page_content import Table


class SingleLabelDiagnostics:
    """Diagnostics from one validation run of a single-label task (one class per video).

    Args:
        probabilities: class probabilities of each video.
        targets: class of each video.
        labels: class names.
        units: for each video, the index of its unit of the bootstrap, from `sampling_units`; None if each video is a
            unit.
    """

    def __init__(
        self,
        probabilities: Float[Tensor, "n classes"],
        targets: Int[Tensor, " n"],
        labels: Sequence[str],
        units: Int[Tensor, " n"] | None = None,
    ) -> None:
        self.targets = targets
        self.labels = labels
        self.metrics = measure_in_units(probabilities, targets, units)
        self.calibration = calibration(probabilities, targets)
        self.chances, self.guesses = probabilities.max(1)

    def validation_table(self) -> Table:
        """Tabulate the metrics with 95% confidence intervals, and the expected calibration error."""
        metrics = {
            "top-1": self.metrics.top1,
            "top-5": self.metrics.top5,
            "mean class accuracy": self.metrics.mean_class_accuracy,
        }
        rows = [
            [name, f"{100 * each.value:.2f}%", f"{100 * each.low:.1f} to {100 * each.high:.1f}"]
            for name, each in metrics.items()
        ]
        rows.append(["expected calibration error", f"{100 * self.calibration.expected_error:.2f}%", ""])
        return Table(["validation", "value", "95% interval"], rows)

    def class_table(self) -> Table:
        """Tabulate each class's accuracy, lowest first, and the wrong class predicted most often for its videos.

        Classes without videos are left out.
        """
        rows: list[list[Any]] = []
        name = names_with_numbers(self.labels)
        for index, label in enumerate(self.labels):
            others = self.metrics.confusion[index].clone()
            videos, right = int(others.sum()), int(others[index])
            others[index] = 0
            if videos:
                taken_for = name[self.labels[int(others.argmax())]] if int(others.sum()) else ""
                rows.append([name[label], videos, round(right / videos, 4), taken_for])
        return Table(["class", "videos", "accuracy", "most often taken for"], sorted(rows, key=lambda row: row[2]))

    def confusion_table(self) -> Table | None:
        """Tabulate the most frequently confused pairs of classes.

        Returns None if there are so few classes that the plot of the confusion matrix shows all their names.
        """
        if len(self.labels) <= NAMED_CLASSES:
            return None
        name, pairs = names_with_numbers(self.labels), confused_pairs(self.metrics.confusion, self.labels)
        rows = [
            [name[pair["label"]], name[pair["predicted"]], pair["videos"], round(pair["share"], 4)] for pair in pairs
        ]
        return Table(["class", "taken for", "videos", "share of the class"], rows)

    def plots(self) -> dict[str, Figure]:
        """Draw the confusion matrix and the reliability diagram."""
        return {
            "confusion_matrix": plot_confusion(self.metrics.confusion, self.labels),
            "reliability": plot_reliability(self.calibration),
        }

    def most_confidently_wrong(self, count: int) -> list[tuple[int, str]]:
        """Find at most `count` videos: those whose wrong predictions have the highest probabilities.

        Returns:
            (row in `probabilities`, caption) of each of these videos, the highest probability first.
        """
        is_wrong = self.guesses != self.targets
        places = self.chances.masked_fill(~is_wrong, -1).topk(min(count, int(is_wrong.sum()))).indices
        return [(place, self.caption(place)) for place in places.tolist()]

    def caption(self, place: int) -> str:
        """Return a caption with true and predicted class, for the video in row `place` of `probabilities`."""
        truth, guess = self.labels[int(self.targets[place])], self.labels[int(self.guesses[place])]
        return f"{truth}, predicted as {guess} ({float(self.chances[place]):.0%})"
