"""Probe report: report.html, an HTML page about heads trained on the features of a frozen network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from farfield.atomic_write import atomic_write
from farfield.reports.page_content import Table, figure_uri
from farfield.reports.rendering import render


def write_probe_page(
    path: Path,
    *,
    title: str,
    heads: Table,
    figures: Mapping[str, Figure],
    configurations: Table,
    about: Mapping[str, Any],
    config: str,
) -> None:
    """Render the probe report as HTML, and write it to `path` atomically.

    Args:
        path: file to write.
        title: name of the run.
        heads: the best configuration of each head.
        figures: plots to embed, by heading.
        configurations: every configuration of the heads with its results.
        about: provenance of the run.
        config: every value of the config, as YAML.
    """
    page = render(
        "probe_report.html.j2",
        title=title,
        heads=heads,
        pictures=[(heading, figure_uri(figure)) for heading, figure in figures.items()],
        configurations=configurations,
        about=about,
        config=config,
    )
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")
