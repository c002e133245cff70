"""Render report.md, the Markdown version of the report.json of `farfield data verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farfield.reports.rendering import render

MAX_ITEMS = 100
"""Maximum number of entries that a section shows; report.json has all entries."""
MAX_SIZES = 30
"""Maximum number of frame sizes that report.md shows; report.json has all sizes."""

SECTIONS = {
    "undecodable": "Cannot be decoded",
    "leaks": "Shared by two splits",
    "same_file": "The same file",
    "other_labels": "The same file in two classes",
    "repeated_rows": "Repeated rows",
    "look_alike": "Near-duplicates",
    "classes_without_videos": "Classes without videos",
    "decord_differs_on": "decord and PyAV give different frames",
}
"""Sections of report.md, in order: from the key of a list in report.json to the heading of its section."""


def render_verify_report(report: Mapping[str, Any], *, reasons: Mapping[str, int], left_out: str) -> str:
    """Render report.md from the content of report.json.

    Args:
        report: content of report.json.
        reasons: number of undecodable videos for each reason. report.md shows these numbers instead of the paths of the
            videos.
        left_out: summary of the files that were skipped when folders were scanned; "" for none.
    """
    return render(
        "verify_report.md.j2",
        report=report,
        sections=[
            (title, kind, list(reasons.items()) if kind == "undecodable" else report[kind])
            for kind, title in SECTIONS.items()
        ],
        max_items=MAX_ITEMS,
        sizes=list(report["resolutions"].items())[:MAX_SIZES],
        left_out=left_out,
    )
