"""report.html: a run on one page that needs nothing else, and no network. What Weights & Biases gets, for everybody."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.figure import Figure

from farfield.atomic_write import atomic_write
from farfield.training.diagnostics import Diagnostics, ShownClip, Table
from farfield.training.run_folder import plot_curves, plot_gradient_norms
from farfield.video.writer import write_video

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px } td, th { padding: 2px 10px; text-align: left }
th { border-bottom: 1px solid #999 } td { border-bottom: 1px solid #eee }
img { max-width: 100%; height: auto } figure { display: inline-block; margin: 0 1em 1em 0; max-width: 320px }
figcaption { font-size: 13px } video { width: 240px; image-rendering: pixelated }
pre { background: #f6f6f6; padding: 1em; font-size: 12px; overflow: auto } details { margin-top: 1em }
"""


def write_page(path: Path, title: str, found: Diagnostics, run_dir: Path, about: dict[str, Any], config: str) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: where.
        title: the run's name.
        found: of the last validation.
        run_dir: where the run's metrics.csv, steps.csv and gradient_norms.csv are.
        about: what the run is: versions, manifests and where it came from.
        config: every value, as YAML.
    """
    metrics = found.metrics
    figures = Table(
        ["validation", "value", "95% interval"],
        [
            [name, f"{100 * e.value:.2f}%", f"{100 * e.low:.1f} to {100 * e.high:.1f}"]
            for name, e in (
                ("top-1", metrics.top1),
                ("top-5", metrics.top5),
                ("mean class accuracy", metrics.mean_class_accuracy),
            )
        ]
        + [["expected calibration error", f"{100 * found.calibration.expected_error:.2f}%", ""]],
    )
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>After epoch {found.epoch + 1}, step {found.step}.</p>",
        _table(figures),
        "<h2>Curves</h2>",
        _picture(plot_curves(run_dir / "metrics.csv"), "curves"),
    ]
    if (run_dir / "gradient_norms.csv").is_file():
        parts.append(_picture(plot_gradient_norms(run_dir / "gradient_norms.csv"), "gradient norms by stage"))
    parts += ["<h2>Classes, hardest first</h2>", _table(found.tables["classes"])]
    if "most_confused" in found.tables:
        parts += ["<h2>Most confused</h2>", _table(found.tables["most_confused"])]
    for name, heading in (("confusion_matrix", "Confusion matrix"), ("reliability", "Reliability")):
        parts += [f"<h2>{heading}</h2>", _picture(found.pictures[name], heading)]
    for name, heading in (
        ("most_confidently_wrong", "Most confidently wrong"),
        ("predicted_clips", "The same clips after each epoch"),
    ):
        if found.clips.get(name):
            parts += [f"<h2>{heading}</h2>", *(_clip(each) for each in found.clips[name])]
    attention = [figure for name, figure in found.pictures.items() if name.startswith("attention")]
    if attention:
        parts.append("<h2>What a position attends to</h2>")
        parts.append(
            "<p>A row is an inserted block; the box is the position, in each block the one with the least spread-out "
            "attention; the lighter a place, the more of it it gets. Bits: entropy of the attention.</p>"
        )
        parts += [_picture(figure, "attention") for figure in attention]
    if "batch_norms" in found.tables:
        parts += ["<h2>Batch norms, on the last training batch</h2>", _table(found.tables["batch_norms"])]
    parts += ["<h2>Epochs</h2>", _table(_csv_table(run_dir / "metrics.csv"))]
    parts += ["<h2>Run</h2>", _table(Table(["", ""], [[name, value] for name, value in about.items()]))]
    parts.append(f"<details><summary>Every value of the config</summary><pre>{html.escape(config)}</pre></details>")
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")


def _table(table: Table) -> str:
    def row(cells: Iterable[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(table.columns, 'th')}{''.join(row(cells, 'td') for cells in table.rows)}</table>"


def _csv_table(path: Path) -> Table:
    with path.open(newline="") as file:
        columns, *rows = list(csv.reader(file))
    return Table(columns, rows)


def _picture(figure: Figure, name: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{_base64(buffer.getvalue())}"></p>'


def _clip(clip: ShownClip) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_video(path, clip.frames, fps=4)
        content = _base64(path.read_bytes())
    return (
        f'<figure><video controls loop muted src="data:video/mp4;base64,{content}"></video>'
        f"<figcaption>{html.escape(clip.caption)}</figcaption></figure>"
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
