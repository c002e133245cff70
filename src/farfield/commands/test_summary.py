"""Console summary of `farfield test`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farfield.reports.read_test_report import METRICS, metrics_of


def test_summary(report: dict[str, Any], folder: Path) -> str:
    """Format the main metrics of a test report, and the path of the report."""
    lines = [f"{report['videos']} videos, {report['num_clips']} clips x {report['num_crops']} crops each"]
    if "scored_among" in report:
        lines.append(f"scored among {report['scored_among']}")
    if report.get("task") == "multi_head":
        return "\n".join([*lines, *_multi_head_rows(report), *failure_lines(report), f"report: {folder / 'report.md'}"])
    macro, point = report["class_metrics"]["macro"], report.get("operating_point", {})
    at_thresholds: Mapping[str, Any] = {}
    rows = {shown: report[name] for name, shown in metrics_of(report).items()}
    if report.get("task") == "multilabel":
        rows |= {f"macro {name}": macro[name] for name in ("precision", "recall")} | {"macro F1": macro["f1"]}
        rows["micro precision"] = report["class_metrics"]["micro"]["precision"]
        at_thresholds = report["class_metrics"]
    else:
        rows |= {"mean average precision": macro["average_precision"], "macro F1": macro["f1"]}
    if "macro" in point:
        rows |= {f"{name} at thresholds": point["macro"][name] for name in ("precision", "recall")}
        rows["micro precision at thresholds"] = point["micro"]["precision"]
        at_thresholds = point
    width = max(23, *map(len, rows))
    lines += [metric_row(f"{shown:<{width}}", estimate) for shown, estimate in rows.items()]
    if (reason := report["class_metrics"]["no_intervals"]) is not None:
        lines.append(f"metrics without an interval: {reason}")
    lines += _decision_lines(at_thresholds) if at_thresholds else []
    calibrated = report["calibration"]
    errors = [
        100 * calibrated[name]["expected_error"] for name in ("as_trained", "with_temperature") if name in calibrated
    ]
    lines.append(f"{'calibration error':<{width}} {' -> '.join(f'{error:6.2f}%' for error in errors)}")
    if calibrated["temperature"] is not None:
        lines[-1] += f"   with temperature {round(calibrated['temperature'], 4)}"
    return "\n".join([*lines, *failure_lines(report), f"report: {folder / 'report.md'}"])


def thresholds_line(point: Mapping[str, Any], checkpoint: str) -> str:
    """Format a summary of the thresholds that were chosen for the classes.

    The summary names the file that holds the thresholds. It lists up to ten classes that got a threshold: those with
    the fewest detections on the validation videos at the class's threshold, each with its number of detections. If
    classes got no threshold, the summary states how many, and names up to five of them.

    Args:
        point: entry `operating_point` of the report.
        checkpoint: file that the thresholds are stored in.
    """
    line = f"thresholds by the rule {point['rule']}: written into {checkpoint}"
    counts = {label: count for label, count in (point.get("detections") or {}).items() if count is not None}
    if counts:
        fewest = sorted(counts, key=lambda label: counts[label])
        shown = ", ".join(f"{label} {counts[label]}" for label in fewest[:10]) + (", ..." if len(fewest) > 10 else "")
        line += f"\ndetections on the validation videos at the thresholds, fewest first: {shown}"
    without = [label for label, threshold in point["thresholds"].items() if threshold is None]
    if not without:
        return line
    named = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
    return (
        f"{line}\n{len(without)} of {len(point['thresholds'])} classes got no threshold: none satisfies the rule on "
        f"the validation videos, or no video has the class ({named}). Give more validation videos, or a milder rule."
    )


def _decision_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Format how many predictions, correct predictions and labels there are, and how many classes are never predicted.

    A class is predicted for a video if its probability reaches the class's threshold.

    Args:
        metrics: entry `operating_point` or, for a multilabel task, `class_metrics` of the report.
    """
    counts, never = metrics["counts"], len(metrics["without_predictions"])
    lines = [
        f"at the thresholds: {counts['predicted']} predictions, {counts['true_positives']} of them right; "
        f"{counts['positives']} labels"
    ]
    if never:
        lines.append(
            f"{never} of {len(metrics['per_class'])} classes have no prediction: their precision is undefined and not "
            "in the mean"
        )
    return lines


def _multi_head_rows(report: dict[str, Any]) -> list[str]:
    rows = {shown: report[name] for name, shown in metrics_of(report).items()}
    for head, metrics in report["heads"].items():
        rows |= {f"{shown} of {head}": metrics[name] for name, shown in METRICS.items()}
    width = max(map(len, rows))
    return [metric_row(f"{shown:<{width}}", estimate) for shown, estimate in rows.items()]


def failure_lines(report: dict[str, Any]) -> list[str]:
    """List the videos that could not be decoded, and why."""
    failures = report["undecodable_videos"]
    if not failures:
        return []
    named = [f"  {failure['path']}: {failure['reason']}" for failure in failures]
    return [f"videos that could not be decoded: {len(failures)}", *named]


def metric_row(name: str, estimate: Mapping[str, float | None]) -> str:
    """Format a metric and its 95% interval in percent; a dash for an undefined metric.

    Args:
        name: name of the metric.
        estimate: `value` (None if undefined), and the limits `low` and `high` of its 95% interval (None without an
            interval). All are fractions from 0 to 1.
    """
    if estimate["value"] is None:
        return f"{name} {'-':>7}"
    row = f"{name} {100 * estimate['value']:6.2f}%"
    if estimate["low"] is None or estimate["high"] is None:
        return row
    return f"{row}   95% interval {100 * estimate['low']:.1f} to {100 * estimate['high']:.1f}"
