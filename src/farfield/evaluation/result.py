"""The result of an evaluation: metrics with intervals, calibration, and results per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot

from farfield.errors import FarfieldError
from farfield.evaluation.accuracy_by_views import AccuracyAtViews, accuracy_by_views
from farfield.evaluation.calibration import Calibration, calibration, scale_temperature
from farfield.evaluation.class_metrics import (
    DecisionMetrics,
    RankingMetrics,
    Resampling,
    measure_decisions,
    measure_ranking,
)
from farfield.evaluation.class_metrics_content import class_metrics_content, operating_point_content
from farfield.evaluation.curves import Curves, measure_curves
from farfield.evaluation.metrics import Metrics, measure
from farfield.evaluation.plots import confused_pairs
from farfield.evaluation.scores_file import FILE, Scores
from farfield.evaluation.threshold_choice import decide
from farfield.models.operating_point import OperatingPoint


@dataclass(frozen=True)
class ClassResult:
    """One class of an evaluation.

    Attributes:
        label: name of the class.
        videos: number of videos of the class.
        accuracy: fraction of these videos that are classified correctly; None if there are no videos.
        most_often_taken_for: class that is predicted most often for the misclassified videos; None if no video is
            misclassified.
    """

    label: str
    videos: int
    accuracy: float | None
    most_often_taken_for: str | None


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        scores: scores of the videos that could be read.
        failures: (path, reason) of every video that could not be read. Metrics do not include these videos.
        temperature: calibration temperature of the reported probabilities; None if they are not calibrated.
        view_giga_multiply_adds: cost of one view, in units of 10^9 multiply-adds; None if unknown.
        about: what was evaluated and how: checkpoint, manifest, views, precision, ...
        groups: group of each video, from the manifest; None for a video without one, or if no video has one.
        operating_point: thresholds of the classes; None if none were chosen.
    """

    scores: Scores
    failures: Sequence[tuple[str, str]]
    temperature: float | None = None
    view_giga_multiply_adds: float | None = None
    about: dict[str, Any] = field(default_factory=dict)
    groups: Sequence[str | None] | None = None
    operating_point: OperatingPoint | None = None

    def probabilities(self) -> Float[Tensor, "n classes"]:
        """Return the class probabilities of each video, calibrated if there is a temperature."""
        plain = self.scores.probabilities
        return plain if self.temperature is None else scale_temperature(plain, self.temperature)

    def metrics(self) -> Metrics:
        """Return top-1, top-5 and mean class accuracy with intervals, and the confusion matrix.

        They are computed without temperature scaling, which would change no ranking except by rounding.
        """
        return self._metrics

    @cached_property
    def _metrics(self) -> Metrics:
        return measure(self.scores.probabilities, self.scores.targets)

    def classes(self) -> list[ClassResult]:
        """Return accuracy and the most frequent confusion of each class."""
        confusion, labels, found = self._metrics.confusion, self.scores.labels, []
        for i, label in enumerate(labels):
            videos, correct = int(confusion[i].sum()), int(confusion[i, i])
            others = confusion[i].clone()
            others[i] = 0
            taken_for = labels[int(others.argmax())] if int(others.sum()) else None
            found.append(ClassResult(label, videos, correct / videos if videos else None, taken_for))
        return found

    def target_matrix(self) -> Bool[Tensor, "n classes"]:
        """Return whether each video has each class."""
        return one_hot(self.scores.targets, len(self.scores.labels)).bool()

    def decisions(self) -> Bool[Tensor, "n classes"]:
        """Return whether each video is taken for each class: the most probable class is."""
        return one_hot(self.scores.probabilities.argmax(1), len(self.scores.labels)).bool()

    @cached_property
    def resampling(self) -> Resampling:
        """How the intervals of the class metrics are computed."""
        return Resampling.of_groups(self.groups, len(self.scores.paths), len(self.scores.labels))

    def decision_metrics(self) -> DecisionMetrics:
        """Return precision, recall and F1 of each class, and their averages."""
        return self._decision_metrics

    @cached_property
    def _decision_metrics(self) -> DecisionMetrics:
        return measure_decisions(self.decisions(), self.target_matrix(), self.resampling)

    def ranking_metrics(self) -> RankingMetrics:
        """Return average precision and ROC-AUC of each class and their averages, and sample-wise average precision.

        They are computed without temperature scaling, which changes the order of videos by their score of a class.

        Raises:
            FarfieldError: if a probability is not a number.
        """
        return self._ranking_metrics

    @cached_property
    def _ranking_metrics(self) -> RankingMetrics:
        scores = self.scores.probabilities
        if scores.isnan().any():
            row = int(scores.isnan().any(1).nonzero()[0, 0])
            raise FarfieldError(
                f"the network's scores of {self.scores.names[row]} are not numbers (NaN). Check that training has not "
                "diverged, or test in precision 32-true."
            )
        return measure_ranking(scores, self.target_matrix(), self.resampling)

    def curves(self) -> Curves:
        """Return the precision-recall and ROC curves of each class."""
        return measure_curves(self.scores.probabilities, self.target_matrix())

    def threshold_metrics(self) -> tuple[list[str], DecisionMetrics] | None:
        """Return precision, recall and F1 at the thresholds of the operating point; None without one.

        Returns:
            The labels of the classes that have a threshold, and the metrics of these classes.
        """
        return self._threshold_metrics

    @cached_property
    def _threshold_metrics(self) -> tuple[list[str], DecisionMetrics] | None:
        if self.operating_point is None:
            return None
        labels = self.scores.labels
        decisions, has_threshold = decide(self.scores.probabilities, labels, self.operating_point)
        if not has_threshold.any():
            return None
        kept = [label for label, has in zip(labels, has_threshold.tolist(), strict=True) if has]
        targets = self.target_matrix()[:, has_threshold]
        return kept, measure_decisions(decisions[:, has_threshold], targets, self.resampling)

    def calibrations(self) -> tuple[Calibration, Calibration | None]:
        """Return the calibration without and with temperature scaling; the second is None without a temperature."""
        plain = calibration(self.scores.probabilities, self.scores.targets)
        if self.temperature is None:
            return plain, None
        return plain, calibration(self.probabilities(), self.scores.targets)

    def accuracy_by_views(self) -> list[AccuracyAtViews]:
        """Return top-1 for each number of averaged views; an empty list if videos have only one view."""
        if self.scores.views.shape[1] == 1:
            return []
        return accuracy_by_views(self.scores.views, self.scores.targets)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of report.json, as plain Python types."""
        metrics = self._metrics
        plain, calibrated = self.calibrations()
        content: dict[str, Any] = {
            **self.about,
            "videos": len(self.scores.paths),
            "top1": asdict(metrics.top1),
            "top5": asdict(metrics.top5),
            "mean_class_accuracy": asdict(metrics.mean_class_accuracy),
            "confidence": 0.95,
            "classes": [asdict(each) for each in self.classes()],
            "most_confused": confused_pairs(metrics.confusion, self.scores.labels),
            "arrays": {"file": FILE, "scores_of_videos": "views", "confusion_matrix": "confusion_matrix"},
            "undecodable_videos": [{"path": path, "reason": reason} for path, reason in self.failures],
            "calibration": {"temperature": self.temperature, "as_trained": asdict(plain)},
        }
        if calibrated is not None:
            content["calibration"]["with_temperature"] = asdict(calibrated)
        content["class_metrics"] = class_metrics_content(
            self.scores.labels,
            self.target_matrix().sum(0).tolist(),
            self.decision_metrics(),
            self.ranking_metrics(),
            self.resampling,
            by_group=self.groups is not None,
        )
        if self.operating_point is not None:
            content["operating_point"] = operating_point_content(self.operating_point, self.threshold_metrics())
        if curve := self.accuracy_by_views():
            content["top1_by_views"] = [{"views": each.views, **asdict(each.top1)} for each in curve]
        return content
