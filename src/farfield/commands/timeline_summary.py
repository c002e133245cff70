"""Console summary of `farfield test --timeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farfield.commands.test_summary import failure_lines, metric_row
from farfield.reports.timeline_report_markdown import alarm_lines, headline


def timeline_summary(report: dict[str, Any], folder: Path) -> str:
    """Format the main metrics of a report of `farfield test --timeline`, and the path of report.md in `folder`."""
    windows = report["timeline"]
    hop = "" if windows["hop_seconds"] is None else f", one every {windows['hop_seconds']:.3g} s"
    lines = [
        f"{report['videos']} videos, {report['hours']:.2f} hours, {report['labelled_segments']} labelled and "
        f"{report['found_segments']} found segments",
        f"{windows['windows']} windows of {windows['window_seconds']:.3g} s{hop}",
    ]
    if not report["found_segments"]:
        lines.append(
            "no class reaches its threshold for long enough. Train longer, lower --threshold, or choose thresholds."
        )
    metrics, alarms = headline(report), alarm_lines(report)
    width = max(map(len, [*metrics, *alarms]))
    lines += [metric_row(f"{name:<{width}}", estimate) for name, estimate in metrics.items()]
    if report["no_intervals"] is not None:
        lines.append(f"metrics without an interval: {report['no_intervals']}")
    lines += [f"{name:<{width}} {text:>7}" for name, text in alarms.items()]
    return "\n".join([*lines, *failure_lines(report), f"report: {folder / 'report.md'}"])
