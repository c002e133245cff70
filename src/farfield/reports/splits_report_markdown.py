"""Render splits.md, the Markdown version of splits.json, which holds averages over a data set's splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farfield.reports.read_test_report import METRICS
from farfield.reports.rendering import render


def render_splits_report(content: Mapping[str, Any]) -> str:
    """Render splits.md from the content of splits.json."""
    return render("splits_report.md.j2", content=content, metrics=METRICS)
