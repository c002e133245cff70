"""Convert class metrics and class thresholds to plain types for report.json, and to rows of per_class.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from farfield.evaluation.class_metrics import Averaged, DecisionCounts, DecisionMetrics, RankingMetrics, Resampling
from farfield.evaluation.metrics import Estimate
from farfield.models.operating_point import OperatingPoint

METRICS = ("precision", "recall", "f1", "average_precision", "roc_auc")


def class_metrics_content(
    labels: Sequence[str],
    positives: Sequence[int],
    decisions: DecisionMetrics,
    ranking: RankingMetrics,
    resampling: Resampling,
    *,
    by_group: bool,
    thresholds: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    """Return the entry `class_metrics` of report.json. Values that are not defined are None.

    Args:
        labels: label of each class.
        positives: number of videos of each class.
        decisions: precision, recall and F1 of each class, with averages.
        ranking: average precision and ROC-AUC of the scores.
        resampling: how the intervals were computed.
        by_group: whether the manifest has groups.
        thresholds: in a multilabel task, the threshold of each class, from `EvaluationResult.thresholds`. In other
            tasks, None instead of the list.
    """
    metrics = {**decisions.by_name, "average_precision": ranking.average_precision, "roc_auc": ranking.roc_auc}
    resampled = "groups" if by_group else "videos"
    return {
        "resampled": resampled,
        "units": resampling.number_of_units,
        "resamples": resampling.draws,
        "no_intervals": resampling.why_no_intervals(resampled),
        **_averages(metrics),
        "sample_average_precision": plain_estimate(ranking.sample_average_precision),
        "without_positives": [label for label, count in zip(labels, positives, strict=True) if not count],
        **_counts(labels, decisions.counts),
        "per_class": [
            {
                "label": label,
                "positives": positives[c],
                **_counts_of_class(decisions.counts, c),
                **({} if thresholds is None else {"threshold": thresholds[c]}),
                **_of_class(metrics, c),
            }
            for c, label in enumerate(labels)
        ],
    }


def chosen_thresholds_content(point: OperatingPoint) -> dict[str, Any]:
    """Return the entry `operating_point` of report.json for a multilabel task or for timelines.

    The entry has no metrics: the metrics at these thresholds are elsewhere in the report.
    """
    without = [label for label, threshold in point.thresholds.items() if threshold is None]
    return {**point.to_dict(), "without_threshold": without}


def operating_point_content(
    point: OperatingPoint, metrics: tuple[Sequence[str], DecisionMetrics] | None
) -> dict[str, Any]:
    """Return the entry `operating_point` of a single-label task's report.json.

    Args:
        point: chosen thresholds of the classes.
        metrics: (labels, metrics) of the classes that have a threshold; None if no class has one.
    """
    if metrics is None:
        return {**chosen_thresholds_content(point), "without_predictions": [], "per_class": []}
    labels, found = metrics
    return {
        **chosen_thresholds_content(point),
        **_averages(found.by_name),
        **_counts(labels, found.counts),
        "per_class": [
            {
                "label": label,
                "threshold": point.thresholds[label],
                "positives": found.counts.positives[c],
                **_counts_of_class(found.counts, c),
                **_of_class(found.by_name, c),
            }
            for c, label in enumerate(labels)
        ],
    }


def _counts(labels: Sequence[str], counts: DecisionCounts) -> dict[str, Any]:
    """Return the entries `without_predictions` and `counts` of report.json.

    `without_predictions` lists the classes that are never predicted. `counts` has the sum over all classes of each
    field of `DecisionCounts`.
    """
    return {
        "without_predictions": [label for label, count in zip(labels, counts.predicted, strict=True) if not count],
        "counts": {name: sum(each) for name, each in vars(counts).items()},
    }


def _counts_of_class(counts: DecisionCounts, c: int) -> dict[str, int]:
    return {"true_positives": counts.true_positives[c], "predicted": counts.predicted[c]}


def per_class_csv(content: Mapping[str, Any]) -> str:
    """Return per_class.csv: a row for each class, with its metrics, their intervals and its threshold, if any.

    In a multilabel task, precision, recall and F1 are measured at the threshold of the class.

    In a single-label task, these three are measured with the most probable class of each video as the prediction. If
    thresholds were chosen, there are further columns: `threshold`, and precision, recall and F1 at the threshold, such
    as `precision_at_threshold`. These columns are empty for a class without a threshold.

    Args:
        content: content of report.json.
    """
    if content.get("task") == "multilabel":
        return _multilabel_per_class_csv(content["class_metrics"]["per_class"])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [f"{metric}{suffix}" for metric in METRICS for suffix in ("", "_low", "_high")]
    point = content.get("operating_point")
    thresholds = {} if point is None else {each["label"]: each for each in point["per_class"]}
    at = [f"{name}_at_threshold{suffix}" for name in METRICS[:3] for suffix in ("", "_low", "_high")]
    writer.writerow(["label", "positives", *columns, *([] if point is None else ["threshold", *at])])
    for each in content["class_metrics"]["per_class"]:
        cells = [each["label"], each["positives"], *_cells(each, METRICS)]
        if point is not None:
            theirs = thresholds.get(each["label"])
            cells += [""] * (1 + len(at)) if theirs is None else [theirs["threshold"], *_cells(theirs, METRICS[:3])]
        writer.writerow(cells)
    return file.getvalue()


def _multilabel_per_class_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [f"{metric}{suffix}" for metric in METRICS for suffix in ("", "_low", "_high")]
    writer.writerow(["label", "positives", "threshold", *columns])
    for row in rows:
        writer.writerow([row["label"], row["positives"], row["threshold"], *_cells(row, METRICS)])
    return file.getvalue()


def _cells(row: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    values = [row[metric][bound] for metric in metrics for bound in ("value", "low", "high")]
    return ["" if value is None else f"{value:.6f}" for value in values]


def _averages(metrics: Mapping[str, Averaged]) -> dict[str, Any]:
    return {
        average: {name: plain_estimate(getattr(metric, average)) for name, metric in metrics.items()}
        for average in ("macro", "micro")
    }


def _of_class(metrics: Mapping[str, Averaged], c: int) -> dict[str, Any]:
    return {name: plain_estimate(metric.per_class[c]) for name, metric in metrics.items()}


def plain_estimate(estimate: Estimate) -> dict[str, float | None]:
    """Return an estimate as a dict, with None for NaN, which JSON does not have."""
    return {name: None if math.isnan(value) else value for name, value in vars(estimate).items()}
