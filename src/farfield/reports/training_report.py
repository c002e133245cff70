"""Training report: report.html, an HTML page about a run. The page embeds all of its pictures and videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from farfield.atomic_write import atomic_write
from farfield.reports.page_content import ShownClip, Table, clip_uri, figure_uri
from farfield.reports.rendering import render


@dataclass(frozen=True)
class TrainingReport:
    """Content of the training report.

    Attributes:
        title: name of the run.
        epoch: number of the epoch of the last validation, counted from 1.
        step: optimiser steps so far.
        validation: validation metrics with their confidence intervals.
        curves: plots of metrics over the run so far, by description.
        classes: accuracy of each class; for a multilabel task, its average precision.
        most_confused: most often confused pairs of classes. None for a multilabel task. Also None if there are so few
            classes that the plot of the confusion matrix shows all their names.
        plots: validation plots, by heading: the confusion matrix and the reliability diagram. For a multilabel task,
            precision-recall curves and ROC curves replace the confusion matrix.
        most_confidently_wrong: clips with the most confident wrong predictions.
        predicted_clips: clips with their predictions. The clips are the same after each epoch.
        attention: attention maps of `predicted_clips`.
        batch_norms: batch-norm diagnostics on the last training batch; None without a training batch.
        epochs: the run's metrics.csv.
        about: versions, manifests and provenance of the run, by name.
        config: every value of the config, as YAML.
    """

    title: str
    epoch: int
    step: int
    validation: Table
    curves: Mapping[str, Figure]
    classes: Table
    most_confused: Table | None
    plots: Mapping[str, Figure]
    most_confidently_wrong: Sequence[ShownClip]
    predicted_clips: Sequence[ShownClip]
    attention: Sequence[Figure]
    batch_norms: Table | None
    epochs: Table
    about: Mapping[str, Any]
    config: str


def write_training_report(path: Path, report: TrainingReport) -> None:
    """Render a training report as HTML, and write it to `path` atomically."""
    page = render(
        "training_report.html.j2",
        title=report.title,
        report=report,
        curves=[(name, figure_uri(figure)) for name, figure in report.curves.items()],
        plots=[(heading, figure_uri(figure)) for heading, figure in report.plots.items()],
        most_confidently_wrong=[(clip_uri(clip), clip.caption) for clip in report.most_confidently_wrong],
        predicted_clips=[(clip_uri(clip), clip.caption) for clip in report.predicted_clips],
        attention=[figure_uri(figure) for figure in report.attention],
    )
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")
