"""Write the report of tested timelines: report.json, report.md, segments.csv, timelines.npz and a picture."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from farfield.atomic_write import write_text_atomically
from farfield.evaluation.plots import names_with_numbers
from farfield.evaluation.timeline_plots import SHOWN_VIDEOS, plot_timelines
from farfield.evaluation.timeline_result import TimelineResult
from farfield.evaluation.timelines_file import FILE, write_timelines
from farfield.reports.timeline_report_markdown import render_timeline_report


def write_timeline_report(result: TimelineResult, folder: str | Path) -> dict[str, Any]:
    """Write report.json, report.md, segments.csv, timelines.npz and timelines.png.

    segments.csv has the segments that were found. timelines.npz has the labelled segments, and the class probabilities
    of all windows, see `read_timelines`. timelines.png shows the `SHOWN_VIDEOS` videos with the lowest
    `VideoTimeline.agreement`.

    Args:
        result: test to report.
        folder: output folder, created if missing.

    Returns:
        The content of report.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = result.to_dict()
    shown = result.worst_first()[:SHOWN_VIDEOS]
    plot_timelines(shown, result.labels, folder / "timelines.png")
    settings = {"options": asdict(result.options), "thresholds": result.thresholds}
    write_timelines(folder / FILE, result.labels, result.task, result.videos, settings, groups=result.groups)
    write_text_atomically(folder / "segments.csv", _segments(result))
    write_text_atomically(folder / "report.json", json.dumps(content, indent=2) + "\n")
    markdown = render_timeline_report(content, names_with_numbers(result.labels), shown_videos=len(shown))
    write_text_atomically(folder / "report.md", markdown)
    return content


def _segments(result: TimelineResult) -> str:
    """Return segments.csv: the segments that were found, in the order of the videos, then of time."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "start_seconds", "end_seconds", "label", "probability", "score"])
    for video in result.videos:
        for each in video.segments:
            times = (f"{seconds:.10g}" for seconds in (each.start_seconds, each.end_seconds))
            writer.writerow([video.path, *times, each.label, f"{each.probability:.6f}", f"{each.score:.6f}"])
    return file.getvalue()
