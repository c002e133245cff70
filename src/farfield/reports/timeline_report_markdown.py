"""Render report.md, the Markdown version of the report.json of a timeline test (`farfield test --timeline`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farfield.reports.rendering import render


def render_timeline_report(report: Mapping[str, Any], shown_names: Mapping[str, str], *, shown_videos: int) -> str:
    """Render report.md from the content of report.json.

    Args:
        report: content of report.json.
        shown_names: name that the tables show for each label.
        shown_videos: number of videos to show. The videos with the worst results are shown, in the table of videos and
            in the picture timelines.png that report.md embeds.
    """
    names = list(report)
    return render(
        "timeline_report.md.j2",
        report=report,
        about={name: report[name] for name in names[: names.index("timeline")] if report[name] is not None},
        metrics=headline(report),
        alarms=alarm_lines(report),
        by_tiou=_by_tiou(report),
        shown_names=shown_names,
        shown_videos=shown_videos,
    )


def headline(report: Mapping[str, Any]) -> dict[str, Mapping[str, float | None]]:
    """Return the main metrics by display name.

    Each metric is a dict with its "value", and the bounds of its confidence interval, "low" and "high". All three are
    fractions, or None if undefined.
    """
    detection, segments, frames = report["average_precision"], report["segments"], report["frames"]
    at = _by_tiou(report)
    return {
        "average mAP, tIoU 0.5 to 0.95": detection["activitynet"]["mean"],
        **{f"mAP at tIoU {tiou:g}": at[tiou] for tiou in (0.5, 0.75, 0.95)},
        "average mAP, tIoU 0.3 to 0.7": detection["thumos"]["mean"],
        **{f"{name} of segments": segments["micro"][name] for name in ("precision", "recall")},
        "F1 of segments": segments["micro"]["f1"],
        "frame-wise mAP": frames["mean_average_precision"],
        "frame-wise accuracy": frames["accuracy"],
        "frame-wise accuracy in actions": frames["accuracy_in_actions"],
    }


def alarm_lines(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the alarm metrics (false alarms, delays) by display name, as text."""
    delay = report["delay"]
    seconds = {"median delay": delay["median_seconds"], "90% of delays at most": delay["slow_seconds"]}
    return {
        "false alarms an hour": f"{report['false_alarms_per_hour']:.2f}",
        "labelled segments detected": f"{delay['detected']} of {delay['detected'] + delay['missed']}",
        **{name: "undefined" if value is None else f"{value:.2f} s" for name, value in seconds.items()},
    }


def _by_tiou(report: Mapping[str, Any]) -> dict[float, Mapping[str, float | None]]:
    """Return the mAP at each tIoU threshold that the metrics of ActivityNet and THUMOS14 use.

    The keys of the returned dict are the thresholds, ascending. Each mAP is a dict with the keys "tiou" (threshold),
    "value" (mAP), "low" and "high" (bounds of its confidence interval). The mAP and the bounds are fractions, or None
    if undefined.
    """
    found = [each for protocol in report["average_precision"].values() for each in protocol["at_tiou"]]
    return {each["tiou"]: each for each in sorted(found, key=lambda each: each["tiou"])}
