"""The result of an evaluation: metrics with intervals, calibration, and results per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from farfield.evaluation.accuracy_by_views import AccuracyAtViews, accuracy_by_views
from farfield.evaluation.calibration import Calibration, calibration, scale_temperature
from farfield.evaluation.metrics import Metrics, measure
from farfield.evaluation.plots import confused_pairs
from farfield.evaluation.scores_file import FILE, Scores


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
    """

    scores: Scores
    failures: Sequence[tuple[str, str]]
    temperature: float | None = None
    view_giga_multiply_adds: float | None = None
    about: dict[str, Any] = field(default_factory=dict)

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
        if curve := self.accuracy_by_views():
            content["top1_by_views"] = [{"views": each.views, **asdict(each.top1)} for each in curve]
        return content
