"""The test report: JSON for programs, Markdown and a confusion matrix for people, predictions per video as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from farfield.atomic_write import atomic_write
from farfield.evaluation.accuracy_by_views import accuracy_by_views
from farfield.evaluation.calibration import calibration, scale_temperature
from farfield.evaluation.metrics import Metrics, measure
from farfield.evaluation.plots import (
    NAMED_CLASSES,
    confused_pairs,
    names_with_numbers,
    plot_confusion,
    plot_reliability,
    plot_views,
)
from farfield.evaluation.scores_file import FILE, Scores, write_scores
from farfield.reports.test_report_markdown import render_test_report


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that an evaluation brought out.

    Attributes:
        scores: of the videos that could be read.
        failures: (path, reason) of every video that could not be read; they are in no metric.
        temperature: that probabilities are reported with; None for those of the network.
        view_giga_multiply_adds: what one view costs; None where it is not known.
    """

    scores: Scores
    failures: Sequence[tuple[str, str]]
    temperature: float | None = None
    view_giga_multiply_adds: float | None = None

    def probabilities(self) -> Float[Tensor, "n classes"]:
        plain = self.scores.probabilities
        return plain if self.temperature is None else scale_temperature(plain, self.temperature)

    def metrics(self) -> Metrics:
        """By the network's own probabilities: scaled ones rank alike, but for the least, which rounding makes equal."""
        return measure(self.scores.probabilities, self.scores.targets)


def write_report(result: EvaluationResult, folder: str | Path, about: dict[str, Any]) -> dict[str, Any]:
    """Writes report.json, report.md, predictions.csv, scores.npz and pictures.

    What grows with videos x classes or classes x classes is in scores.npz: as JSON, the confusion matrix of 3,000
    classes takes 80 MB. The pictures are confusion_matrix.png, reliability.png and, of several views, views.png.

    Args:
        result: what to report.
        folder: where to write; it is made if need be.
        about: what was evaluated and how, for the report's head.

    Returns:
        The content of report.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scores, metrics = result.scores, result.metrics()
    content = _as_dict(result, metrics, about)
    plain = calibration(scores.probabilities, scores.targets)
    mended = None if result.temperature is None else calibration(result.probabilities(), scores.targets)
    content["calibration"] = {"temperature": result.temperature, "as_trained": asdict(plain)}
    if mended is not None:
        content["calibration"]["with_temperature"] = asdict(mended)
    plot_reliability(plain, mended).savefig(folder / "reliability.png", dpi=120)
    if scores.views.shape[1] > 1:
        curve = accuracy_by_views(scores.views, scores.targets)
        content["top1_by_views"] = [{"views": each.views, **asdict(each.top1)} for each in curve]
        plot_views(curve, result.view_giga_multiply_adds).savefig(folder / "views.png", dpi=120)
    plot_confusion(metrics.confusion, scores.labels, folder / "confusion_matrix.png")
    write_scores(scores, folder / FILE, confusion=metrics.confusion)
    _write_atomically(folder / "predictions.csv", _predictions(result))
    _write_atomically(folder / "report.json", json.dumps(content, indent=2) + "\n")
    markdown = render_test_report(
        content, names_with_numbers(scores.labels), list_confused=len(scores.labels) > NAMED_CLASSES
    )
    _write_atomically(folder / "report.md", markdown)
    return content


def _write_atomically(path: Path, text: str) -> None:
    """Whole or not at all; names of files in it need not be UTF-8."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def _predictions(result: EvaluationResult) -> str:
    scores, file = result.scores, io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = ["path", "label", "predicted", "probability", "probability_of_label"]
    segments = [[]] * len(scores.paths) if scores.segments is None else scores.segments.tolist()
    writer.writerow([*columns, *([] if scores.segments is None else ["start_seconds", "end_seconds"])])
    predicted = scores.probabilities.argmax(1).tolist()  # a temperature's rounding changes none
    rows = zip(scores.paths, scores.targets.tolist(), predicted, result.probabilities(), segments, strict=True)
    for path, target, best, row, segment in rows:
        cells = [path, scores.labels[target], scores.labels[best], f"{row[best]:.6f}", f"{row[target]:.6f}"]
        writer.writerow([*cells, *("" if math.isnan(seconds) else f"{seconds:.10g}" for seconds in segment)])
    return file.getvalue()


def _as_dict(result: EvaluationResult, metrics: Metrics, about: dict[str, Any]) -> dict[str, Any]:
    confusion = metrics.confusion
    classes = []
    for i, label in enumerate(result.scores.labels):
        videos, correct = int(confusion[i].sum()), int(confusion[i, i])
        others = confusion[i].clone()
        others[i] = 0
        taken_for = result.scores.labels[int(others.argmax())] if int(others.sum()) else None
        accuracy = correct / videos if videos else None
        classes.append({"label": label, "videos": videos, "accuracy": accuracy, "most_often_taken_for": taken_for})
    return {
        **about,
        "videos": len(result.scores.paths),
        "top1": asdict(metrics.top1),
        "top5": asdict(metrics.top5),
        "mean_class_accuracy": asdict(metrics.mean_class_accuracy),
        "confidence": 0.95,
        "classes": classes,
        "most_confused": confused_pairs(confusion, result.scores.labels),
        "arrays": {"file": FILE, "scores_of_videos": "views", "confusion_matrix": "confusion_matrix"},
        "undecodable_videos": [{"path": path, "reason": reason} for path, reason in result.failures],
    }
