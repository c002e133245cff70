"""The content of report.json: the result of an evaluation as plain Python types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from farfield.evaluation.calibration import Calibration
from farfield.evaluation.class_metrics_content import (
    chosen_thresholds_content,
    class_metrics_content,
    operating_point_content,
    plain_estimate,
)
from farfield.evaluation.metrics import Estimate, Metrics
from farfield.evaluation.multilabel_calibration import PairCalibration
from farfield.evaluation.plots import confused_pairs
from farfield.evaluation.scores_file import FILE

if TYPE_CHECKING:
    from farfield.evaluation.result import EvaluationResult  # which imports this file


def report_content(result: EvaluationResult) -> dict[str, Any]:
    """Return the content of report.json. Its entries depend on the result's task."""
    if result.task == "multi_head":
        return _multi_head_content(result)
    return _multilabel_content(result) if result.task == "multilabel" else _single_label_content(result)


def _multi_head_content(result: EvaluationResult) -> dict[str, Any]:
    positives = result.target_matrix().sum(0).tolist()
    return {
        **result.about,
        "task": result.task,
        "views_aggregation": result.scores.views_aggregation,
        "videos": len(result.scores.paths),
        **asdict(result.joint_metrics()),
        "confidence": 0.95,
        "heads": {head: _accuracies(each.metrics()) for head, each in result.heads().items()},
        "classes": [
            {"label": label, "videos": count} for label, count in zip(result.scores.labels, positives, strict=True)
        ],
        "arrays": {"file": FILE, "scores_of_videos": "views"},
        "undecodable_videos": _undecodable(result),
    }


def _single_label_content(result: EvaluationResult) -> dict[str, Any]:
    metrics, scores = result.metrics(), result.scores
    content: dict[str, Any] = {
        **result.about,
        **({} if scores.views_aggregation == "mean" else {"views_aggregation": scores.views_aggregation}),
        "videos": len(scores.paths),
        **_accuracies(metrics),
        "confidence": 0.95,
        "classes": [asdict(each) for each in result.classes()],
        "most_confused": confused_pairs(metrics.confusion, scores.labels),
        "arrays": {"file": FILE, "scores_of_videos": "views", "confusion_matrix": "confusion_matrix"},
        "undecodable_videos": _undecodable(result),
        "calibration": _calibration_content(result, *result.calibrations()),
        "class_metrics": _class_metrics_content(result),
    }
    if result.operating_point is not None:
        content["operating_point"] = operating_point_content(result.operating_point, result.threshold_metrics())
    if curve := result.accuracy_by_views():
        content["top1_by_views"] = [{"views": each.views, **asdict(each.top1)} for each in curve]
    return content


def _multilabel_content(result: EvaluationResult) -> dict[str, Any]:
    scores = result.scores
    headline = {
        name: plain_estimate(value) if isinstance(value, Estimate) else value
        for name, value in vars(result.multilabel_metrics()).items()
    }
    positives = result.target_matrix().sum(0).tolist()
    content: dict[str, Any] = {
        **result.about,
        "task": result.task,
        "views_aggregation": scores.views_aggregation,
        "videos": len(scores.paths),
        **headline,
        "confidence": 0.95,
        "classes": [{"label": label, "videos": count} for label, count in zip(scores.labels, positives, strict=True)],
        "arrays": {"file": FILE, "scores_of_videos": "views"},
        "undecodable_videos": _undecodable(result),
        "calibration": _calibration_content(result, *result.pair_calibrations()),
        "class_metrics": _class_metrics_content(result, result.thresholds()),
    }
    if result.operating_point is not None:
        content["operating_point"] = chosen_thresholds_content(result.operating_point)
    if curve := result.precision_by_views():
        content["mean_average_precision_by_views"] = [asdict(each) for each in curve]
    return content


def _undecodable(result: EvaluationResult) -> list[dict[str, str]]:
    return [{"path": path, "reason": reason} for path, reason in result.failures]


def _calibration_content(
    result: EvaluationResult, plain: Calibration | PairCalibration, calibrated: Calibration | PairCalibration | None
) -> dict[str, Any]:
    content = {"temperature": result.temperature, "as_trained": asdict(plain)}
    return content if calibrated is None else {**content, "with_temperature": asdict(calibrated)}


def _class_metrics_content(
    result: EvaluationResult, thresholds: Sequence[float | None] | None = None
) -> dict[str, Any]:
    return class_metrics_content(
        result.scores.labels,
        result.target_matrix().sum(0).tolist(),
        result.decision_metrics(),
        result.ranking_metrics(),
        result.resampling,
        by_group=result.groups is not None,
        thresholds=thresholds,
    )


def _accuracies(metrics: Metrics) -> dict[str, Any]:
    """Return the accuracies and their intervals as plain types, without the confusion matrix."""
    return {name: asdict(getattr(metrics, name)) for name in ("top1", "top5", "mean_class_accuracy")}
