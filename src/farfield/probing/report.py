"""Write the files of a probe's run folder: probe.json, metrics.csv, curve.csv, curve.png and report.html."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farfield.atomic_write import write_text_atomically
from farfield.probing.curve import plot_curve
from farfield.probing.options import HeadName
from farfield.probing.result import ProbeResult, headline
from farfield.reports.page_content import Table
from farfield.reports.probe_report import write_probe_page
from farfield.reports.rendering import estimate

HEADS: dict[HeadName, str] = {
    "linear": "linear: average of the features, one linear layer",
    "attentive": "attentive: features pooled by a learned query",
    "non_local": "non_local: a non-local block, average, one linear layer",
}


def write_probe_files(result: ProbeResult, run_dir: Path, *, about: Mapping[str, Any], config: str) -> None:
    """Write the files of a finished probe, atomically.

    Args:
        result: the probe.
        run_dir: run folder.
        about: provenance of the run, shown in the report.
        config: every resolved value of the config, as YAML.
    """
    columns = list(result.configurations[0])
    write_text_atomically(run_dir / "probe.json", json.dumps(result.to_dict(), indent=2) + "\n")
    rows = [[_cell(row[name]) for name in columns] for row in result.configurations]
    write_text_atomically(run_dir / "metrics.csv", _csv([columns, *rows]))
    figures = {}
    if result.curve:
        of_draws = [
            [point.videos_per_class, draw, _cell(value)]
            for point in result.curve
            for draw, value in enumerate(point.values)
        ]
        write_text_atomically(run_dir / "curve.csv", _csv([["videos_per_class", "draw", "value"], *of_draws]))
        name = headline(result.test)[0] if result.test is not None else result.monitor.removeprefix("val/")
        measured_on = f"{result.num_videos[result.curve_on]} {result.curve_on}"
        figure = plot_curve(result.curve, metric=name, measured_on=measured_on)
        figure.savefig(run_dir / "curve.png", dpi=120)
        figures["Accuracy against training videos per class"] = figure
    write_probe_page(
        run_dir / "report.html",
        title=f"Probe {run_dir.name}",
        heads=_heads_table(result),
        figures=figures,
        configurations=Table(columns, rows),
        about={**about, "videos": dict(result.num_videos), "seconds": result.to_dict()["seconds"]},
        config=config,
    )


def _heads_table(result: ProbeResult) -> Table:
    """Tabulate the best configuration and the main metrics (validation, test) of each head, best head first."""
    order = sorted(result.heads, key=lambda name: name != result.head)
    metric = "" if result.test is None else f"test {headline(result.test)[0]} (95% interval)"
    rows = []
    for name in order:
        head = result.heads[name]
        value = head.figures[result.monitor]
        test = [] if head.test is None else [estimate(vars(headline(head.test)[1]))]
        lr, decay = head.configuration
        rows.append([HEADS[name], f"{lr:g}", f"{decay:g}", f"{value:.4g}", *test])
    return Table(["head", "learning rate", "weight decay", result.monitor, *([metric] if metric else [])], rows)


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _csv(rows: list[list[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
