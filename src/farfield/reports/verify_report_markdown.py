"""Report of `farfield data verify` as Markdown: report.md, beside report.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farfield.reports.rendering import render

MAX_ITEMS = 100
"""Entries of a section, and MAX_SIZES frame sizes; the rest is in report.json."""
MAX_SIZES = 30

SECTIONS = {
    "undecodable": "Cannot be decoded",
    "leaks": "Shared by two splits",
    "same_file": "The same file",
    "other_labels": "The same file in two classes",
    "repeated_rows": "Repeated rows",
    "look_alike": "Near-duplicates",
    "classes_without_videos": "Classes without videos",
    "decord_differs_on": "decord gives other frames",
}
"""Lists of report.json, in the order of the sections, and the sections' headings."""


def render_verify_report(report: Mapping[str, Any], *, reasons: Mapping[str, int], left_out: str) -> str:
    """Render report.md.

    Args:
        report: content of report.json.
        reasons: number of undecodable videos by reason, shown in place of their paths.
        left_out: files that scans of folders passed over, in words; "" for none.
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
