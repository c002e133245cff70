"""Render report.md, the Markdown version of a test's report.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farfield.reports.read_test_report import metrics_of
from farfield.reports.rendering import render


def render_test_report(report: Mapping[str, Any], shown_names: Mapping[str, str], *, list_confused: bool) -> str:
    """Render report.md from the content of report.json.

    Args:
        report: content of report.json.
        shown_names: name that the tables show for each label.
        list_confused: whether to add a table of the most confused classes; ignored for a multilabel task.
    """
    about = _about(report)
    calibration = report["calibration"]
    titles = {"as_trained": "as trained"}
    if calibration["temperature"] is not None:
        titles["with_temperature"] = f"temperature {round(calibration['temperature'], 4)}"
    is_multilabel = report.get("task") == "multilabel"
    return render(
        "multilabel_test_report.md.j2" if is_multilabel else "test_report.md.j2",
        report=report,
        about=about,
        metrics=metrics_of(report),
        class_metrics=report["class_metrics"],
        class_columns=("precision", "recall", "f1", "average_precision", "roc_auc"),
        point=report.get("operating_point"),
        calibrations={title: calibration[key] for key, title in titles.items() if key in calibration},
        shown_names=shown_names,
        most_confused=report["most_confused"] if list_confused and not is_multilabel else [],
        missing=[each["label"] for each in report["classes"] if not each["videos"]],
    )


def render_multi_head_report(report: Mapping[str, Any]) -> str:
    """Render report.md from the content of the report.json of a `multi_head` task."""
    return render("multi_head_test_report.md.j2", report=report, about=_about(report))


def _about(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of report.json that describe the test: those before "videos", except entries that are None."""
    names = list(report)
    return {name: report[name] for name in names[: names.index("videos")] if report[name] is not None}
