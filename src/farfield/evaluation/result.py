"""The result of an evaluation: metrics with intervals, calibration, and results per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
from farfield.evaluation.curves import Curves, measure_curves
from farfield.evaluation.group_intervals import measure_in_units
from farfield.evaluation.metrics import Metrics
from farfield.evaluation.multi_head_metrics import JointMetrics, measure_jointly, scores_of_heads
from farfield.evaluation.multilabel_calibration import PairCalibration, pair_calibration, scale_pair_temperature
from farfield.evaluation.multilabel_metrics import MultilabelMetrics, measure_multilabel
from farfield.evaluation.precision_by_views import PrecisionAtViews, precision_by_views
from farfield.evaluation.report_content import report_content
from farfield.evaluation.resampling import sampling_units
from farfield.evaluation.scores_file import Scores, check_numbers
from farfield.evaluation.threshold_choice import decide
from farfield.models.operating_point import OperatingPoint, class_thresholds, reaches
from farfield.task import Task


@dataclass(frozen=True)
class ClassResult:
    """Accuracy and most frequent confusion of one class.

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
    """Scores of a test's videos, and methods that compute metrics from them.

    Some methods are for one task only, and raise `FarfieldError` for other tasks:
    - `single_label`: `metrics`, `classes`, `calibrations` and `accuracy_by_views`
    - `multilabel`: `multilabel_metrics`, `pair_calibrations` and `precision_by_views`
    - `multi_head`: `joint_metrics` and `heads`. `heads` returns a single-label result for each head. For this
      task, class metrics, curves and decisions are available only from the results of the heads.

    Attributes:
        scores: scores of the videos that could be read.
        failures: (path, reason) of every video that could not be read. Metrics do not include these videos.
        temperature: calibration temperature of the reported probabilities; None if they are not calibrated.
        view_giga_multiply_adds: cost of one view, in units of 10^9 multiply-adds; None if unknown.
        about: what was evaluated and how: checkpoint, manifest, views, numeric precision, ...
        groups: group of each video in the manifest (None for a video without a group), or None if no video has a group.
        operating_point: thresholds of the classes; None if none were chosen.
    """

    scores: Scores
    failures: Sequence[tuple[str, str]]
    temperature: float | None = None
    view_giga_multiply_adds: float | None = None
    about: dict[str, Any] = field(default_factory=dict)
    groups: Sequence[str | None] | None = None
    operating_point: OperatingPoint | None = None

    @property
    def task(self) -> Task:
        """Task of the tested network."""
        return self.scores.task

    def probabilities(self) -> Float[Tensor, "n classes"]:
        """Return the class probabilities of each video, calibrated if there is a temperature."""
        plain = self.scores.probabilities
        if self.temperature is None:
            return plain
        scale = scale_pair_temperature if self.task == "multilabel" else scale_temperature
        return scale(plain, self.temperature)

    def metrics(self) -> Metrics:
        """Return top-1, top-5 and mean class accuracy with intervals, and the confusion matrix.

        The metrics are computed without temperature scaling, which does not change the ranking of the classes for a
        video, except by rounding. Intervals are Wilson's, widened for groups of videos, see `group_intervals`.

        Raises:
            FarfieldError: unless the task is `single_label`, or if a probability is NaN.
        """
        self._check_task("single_label", "metrics")
        return self._metrics

    @cached_property
    def _metrics(self) -> Metrics:
        check_numbers(self.scores)
        return measure_in_units(self.scores.probabilities, self.scores.targets, self.resampling.units)

    def multilabel_metrics(self) -> MultilabelMetrics:
        """Return mean average precision (mAP) and the other main metrics of a multilabel task, with intervals.

        Raises:
            FarfieldError: unless the task is `multilabel`, or if a probability is NaN.
        """
        self._check_task("multilabel", "multilabel_metrics")
        return measure_multilabel(self.ranking_metrics(), self.decisions(), self.target_matrix(), self.resampling.units)

    def joint_metrics(self) -> JointMetrics:
        """Return the accuracy of the joint predictions of all heads: one class for each head, such as (verb, noun).

        Raises:
            FarfieldError: unless the task is `multi_head`, or if a probability is NaN.
        """
        self._check_task("multi_head", "joint_metrics")
        return measure_jointly(self.scores, self.resampling.units)

    def heads(self) -> dict[str, EvaluationResult]:
        """Return the single-label result of each head of a `multi_head` task, by the head's name.

        Raises:
            FarfieldError: unless the task is `multi_head`.
        """
        self._check_task("multi_head", "heads")
        return self._heads

    @cached_property
    def _heads(self) -> dict[str, EvaluationResult]:
        return {
            head: EvaluationResult(
                scores,
                self.failures,
                view_giga_multiply_adds=self.view_giga_multiply_adds,
                about={**self.about, "head": head},
                groups=self.groups,
            )
            for head, scores in scores_of_heads(self.scores).items()
        }

    def _check_task(self, task: Task, method: str) -> None:
        if self.task != task:
            other = "heads" if self.task == "multi_head" else _OTHER_TASKS[method]
            raise FarfieldError(
                f"{method}() is for {task!r} tasks, but the tested network's task is {self.task!r}. Call {other}()."
            )

    def _check_one_set_of_classes(self, method: str) -> None:
        if self.task == "multi_head":
            raise FarfieldError(
                "the classes of a 'multi_head' network belong to several heads. Call "
                f"{method}() on the results from heads()."
            )

    def classes(self) -> list[ClassResult]:
        """Return accuracy and the most frequent confusion of each class.

        Raises:
            FarfieldError: unless the task is `single_label`.
        """
        self._check_task("single_label", "classes")
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
        return self.scores.target_matrix()

    def thresholds(self) -> list[float | None]:
        """Return the threshold of each class.

        Thresholds are those of `operating_point`. For a class without a threshold, the value is 0.5 in a multilabel
        task, and None in other tasks.
        """
        return class_thresholds(self.scores.labels, self.operating_point, self.task)

    def decisions(self) -> Bool[Tensor, "n classes"]:
        """Return which classes are predicted for each video.

        In a single-label task, the most probable class is predicted. In a multilabel task, a class is predicted if its
        probability, without temperature scaling, reaches its threshold.

        Raises:
            FarfieldError: if the task is `multi_head`.
        """
        self._check_one_set_of_classes("decisions")
        if self.task == "multilabel":
            return reaches(self.scores.probabilities, self.thresholds())
        return one_hot(self.scores.probabilities.argmax(1), len(self.scores.labels)).bool()

    @cached_property
    def resampling(self) -> Resampling:
        """Bootstrap settings for the intervals of the class metrics."""
        return Resampling.of_units(sampling_units(self.groups, self.scores.paths), len(self.scores.labels))

    def decision_metrics(self) -> DecisionMetrics:
        """Return precision, recall and F1 of each class, and their averages.

        Raises:
            FarfieldError: if the task is `multi_head`.
        """
        self._check_one_set_of_classes("decision_metrics")
        return self._decision_metrics

    @cached_property
    def _decision_metrics(self) -> DecisionMetrics:
        check_numbers(self.scores)
        return measure_decisions(self.decisions(), self.target_matrix(), self.resampling)

    def ranking_metrics(self) -> RankingMetrics:
        """Return average precision and ROC-AUC of each class, their averages, and sample-wise average precision.

        The metrics are computed without temperature scaling. In a single-label task, scaling would change the ranking
        of the videos for a class.

        Raises:
            FarfieldError: if the task is `multi_head`, or a probability is NaN.
        """
        self._check_one_set_of_classes("ranking_metrics")
        return self._ranking_metrics

    @cached_property
    def _ranking_metrics(self) -> RankingMetrics:
        scores = self.scores.probabilities
        check_numbers(self.scores)
        return measure_ranking(scores, self.target_matrix(), self.resampling)

    def curves(self) -> Curves:
        """Return the precision-recall and ROC curves of each class.

        Raises:
            FarfieldError: if the task is `multi_head`.
        """
        self._check_one_set_of_classes("curves")
        return measure_curves(self.scores.probabilities, self.target_matrix())

    def threshold_metrics(self) -> tuple[list[str], DecisionMetrics] | None:
        """Return precision, recall and F1 at the thresholds of `operating_point`; None if no class has a threshold.

        Returns:
            The labels of the classes that have a threshold, and the metrics of these classes.

        Raises:
            FarfieldError: if the task is `multi_head`.
        """
        self._check_one_set_of_classes("threshold_metrics")
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
        """Return the calibration without and with temperature scaling; the second is None without a temperature.

        Raises:
            FarfieldError: unless the task is `single_label`.
        """
        self._check_task("single_label", "calibrations")
        check_numbers(self.scores)
        plain = calibration(self.scores.probabilities, self.scores.targets)
        if self.temperature is None:
            return plain, None
        return plain, calibration(self.probabilities(), self.scores.targets)

    def pair_calibrations(self) -> tuple[PairCalibration, PairCalibration | None]:
        """Return the calibration of all pairs of a video and a class, without and with temperature scaling.

        The second is None without a temperature.

        Raises:
            FarfieldError: unless the task is `multilabel`.
        """
        self._check_task("multilabel", "pair_calibrations")
        check_numbers(self.scores)
        plain = pair_calibration(self.scores.probabilities, self.target_matrix())
        if self.temperature is None:
            return plain, None
        return plain, pair_calibration(self.probabilities(), self.target_matrix())

    def accuracy_by_views(self) -> list[AccuracyAtViews]:
        """Return top-1 accuracy for each number of aggregated views; an empty list if videos have only one view.

        Raises:
            FarfieldError: unless the task is `single_label`.
        """
        self._check_task("single_label", "accuracy_by_views")
        scores = self.scores
        if scores.views.shape[1] == 1:
            return []
        return accuracy_by_views(
            scores.views, scores.targets, units=self.resampling.units, method=scores.views_aggregation
        )

    def precision_by_views(self) -> list[PrecisionAtViews]:
        """Return the mAP for each number of aggregated views; an empty list if videos have only one view.

        Raises:
            FarfieldError: unless the task is `multilabel`.
        """
        self._check_task("multilabel", "precision_by_views")
        return self._precision_by_views

    @cached_property
    def _precision_by_views(self) -> list[PrecisionAtViews]:
        scores = self.scores
        if scores.views.shape[1] == 1:
            return []
        return precision_by_views(scores.views, self.target_matrix(), method=scores.views_aggregation)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of report.json, as plain Python types."""
        return report_content(self)


_OTHER_TASKS = {
    "metrics": "multilabel_metrics",
    "classes": "decision_metrics() and ranking_metrics",
    "calibrations": "pair_calibrations",
    "accuracy_by_views": "precision_by_views",
    "multilabel_metrics": "metrics",
    "pair_calibrations": "calibrations",
    "precision_by_views": "accuracy_by_views",
    "joint_metrics": "to_dict",
    "heads": "to_dict",
}
"""Maps a method that does not suit the network's task to the method that the error message suggests instead."""
