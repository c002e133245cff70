"""Write an evaluation's report: report.json, report.md, predictions.csv, per_class.csv, scores.npz and plots."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from farfield.atomic_write import write_text_atomically
from farfield.evaluation.class_metrics_content import per_class_csv
from farfield.evaluation.curves import plot_precision_recall, plot_roc
from farfield.evaluation.plots import (
    NAMED_CLASSES,
    names_with_numbers,
    plot_confusion,
    plot_pair_reliability,
    plot_precision_by_views,
    plot_reliability,
    plot_views,
)
from farfield.evaluation.result import EvaluationResult
from farfield.evaluation.scores_file import FILE, label_texts, write_scores
from farfield.reports.test_report_markdown import render_multi_head_report, render_test_report


def write_report(result: EvaluationResult, folder: str | Path) -> dict[str, Any]:
    """Write report.json, report.md, predictions.csv, per_class.csv, scores.npz and plots (PNG).

    Large arrays (videos x classes and classes x classes) are in scores.npz only: as JSON, the confusion matrix of 3,000
    classes takes 80 MB. The plots are confusion_matrix.png (for a single-label task), reliability.png,
    precision_recall.png, roc.png and, for several views, views.png.

    For a `multi_head` task, all these files are written for each head, into a subfolder with the head's name. `folder`
    then has only report.json, report.md and scores.npz, with the results of all heads.

    Args:
        result: evaluation to report.
        folder: output folder, created if missing.

    Returns:
        The content of report.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scores = result.scores
    content = result.to_dict()
    if result.task == "multi_head":
        _write_multi_head(result, folder, content)
        return content
    confusion = None
    if result.task == "multilabel":
        _plot_multilabel(result, folder)
    else:
        confusion = result.metrics().confusion
        plot_reliability(*result.calibrations()).savefig(folder / "reliability.png", dpi=120)
        if curve := result.accuracy_by_views():
            plot_views(curve, result.view_giga_multiply_adds).savefig(folder / "views.png", dpi=120)
        plot_confusion(confusion, scores.labels, folder / "confusion_matrix.png")
    curves, ranking = result.curves(), result.ranking_metrics()
    plot_precision_recall(curves, ranking, scores.labels).savefig(folder / "precision_recall.png", dpi=120)
    plot_roc(curves, ranking, scores.labels).savefig(folder / "roc.png", dpi=120)
    write_scores(scores, folder / FILE, confusion=confusion, groups=result.groups)
    write_text_atomically(folder / "predictions.csv", _predictions(result))
    write_text_atomically(folder / "per_class.csv", per_class_csv(content))
    write_text_atomically(folder / "report.json", json.dumps(content, indent=2) + "\n")
    markdown = render_test_report(
        content, names_with_numbers(scores.labels), list_confused=len(scores.labels) > NAMED_CLASSES
    )
    write_text_atomically(folder / "report.md", markdown)
    return content


def _write_multi_head(result: EvaluationResult, folder: Path, content: dict[str, Any]) -> None:
    for head, each in result.heads().items():
        write_report(each, folder / head)
    write_scores(result.scores, folder / FILE, groups=result.groups)
    write_text_atomically(folder / "report.json", json.dumps(content, indent=2) + "\n")
    write_text_atomically(folder / "report.md", render_multi_head_report(content))


def _plot_multilabel(result: EvaluationResult, folder: Path) -> None:
    plot_pair_reliability(*result.pair_calibrations()).savefig(folder / "reliability.png", dpi=120)
    if curve := result.precision_by_views():
        plot_precision_by_views(curve, result.view_giga_multiply_adds).savefig(folder / "views.png", dpi=120)


def _predictions(result: EvaluationResult) -> str:
    """Return predictions.csv. Several labels of a video, and their probabilities, are separated by `|`."""
    scores, file = result.scores, io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = ["path", "label", "predicted", "probability", "probability_of_label"]
    segments = [[]] * len(scores.paths) if scores.segments is None else scores.segments.tolist()
    writer.writerow([*columns, *([] if scores.segments is None else ["start_seconds", "end_seconds"])])
    decisions = result.decisions()  # without temperature: rounding after scaling could change a class
    predicted, has_label = (
        [row.nonzero()[:, 0].tolist() for row in each] for each in (decisions, scores.target_matrix())
    )
    texts = scores.label_texts(), label_texts(decisions, scores.labels)
    rows = zip(scores.paths, *texts, predicted, has_label, result.probabilities(), segments, strict=True)
    for path, label, guess, guesses, classes, row, segment in rows:
        probabilities = ("|".join(f"{row[c]:.6f}" for c in chosen) for chosen in (guesses, classes))
        times = ("" if math.isnan(seconds) else f"{seconds:.10g}" for seconds in segment)
        writer.writerow([path, label, guess, *probabilities, *times])
    return file.getvalue()
