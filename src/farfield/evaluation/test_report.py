"""Write an evaluation's report: report.json, report.md, predictions.csv, scores.npz and pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from farfield.atomic_write import atomic_write
from farfield.evaluation.plots import (
    NAMED_CLASSES,
    names_with_numbers,
    plot_confusion,
    plot_reliability,
    plot_views,
)
from farfield.evaluation.result import EvaluationResult
from farfield.evaluation.scores_file import FILE, write_scores


def write_report(result: EvaluationResult, folder: str | Path) -> dict[str, Any]:
    """Write report.json, report.md, predictions.csv, scores.npz and pictures.

    Arrays that grow with videos x classes or classes x classes are in scores.npz: as JSON, the confusion matrix of
    3,000 classes takes 80 MB. The pictures are confusion_matrix.png, reliability.png and, for several views, views.png.

    Args:
        result: the evaluation.
        folder: created if missing.

    Returns:
        The content of report.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scores, confusion = result.scores, result.metrics().confusion
    content = result.to_dict()
    plot_reliability(*result.calibrations()).savefig(folder / "reliability.png", dpi=120)
    if curve := result.accuracy_by_views():
        plot_views(curve, result.view_giga_multiply_adds).savefig(folder / "views.png", dpi=120)
    plot_confusion(confusion, scores.labels, folder / "confusion_matrix.png")
    write_scores(scores, folder / FILE, confusion=confusion)
    _write_atomically(folder / "predictions.csv", _predictions(result))
    _write_atomically(folder / "report.json", json.dumps(content, indent=2) + "\n")
    _write_atomically(folder / "report.md", _as_markdown(content))
    return content


def _write_atomically(path: Path, text: str) -> None:
    """Write text atomically; file names in it need not be UTF-8."""
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


def _as_markdown(content: dict[str, Any]) -> str:
    lines = ["# Test report", ""]
    for name, value in content.items():
        if name == "videos":
            break
        lines.append(f"- {name.replace('_', ' ')}: {value}")
    failures = content["undecodable_videos"]
    lines += [f"- videos scored: {content['videos']}", f"- videos that could not be decoded: {len(failures)}", ""]
    lines += ["| metric | value | 95% interval |", "|---|---|---|"]
    for name, shown in (("top1", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean class accuracy")):
        e = content[name]
        lines.append(f"| {shown} | {100 * e['value']:.2f}% | {100 * e['low']:.2f}% to {100 * e['high']:.2f}% |")
    lines += _calibration_lines(content["calibration"])
    if "top1_by_views" in content:
        lines += ["", "## Views", "", "![accuracy over views](views.png)"]
    lines += ["", "![confusion matrix](confusion_matrix.png)", "", "## Classes, hardest first", ""]
    labels = [c["label"] for c in content["classes"]]
    names = names_with_numbers(labels)
    lines += ["| class | videos | accuracy | most often taken for |", "|---|---|---|---|"]
    with_videos = [c for c in content["classes"] if c["videos"]]
    for c in sorted(with_videos, key=lambda c: c["accuracy"]):
        taken_for = names.get(c["most_often_taken_for"], "")
        lines.append(f"| {names[c['label']]} | {c['videos']} | {100 * c['accuracy']:.1f}% | {taken_for} |")
    if len(labels) > NAMED_CLASSES and content["most_confused"]:
        lines += [
            "",
            "## Most confused",
            "",
            "| class | taken for | videos | share of the class |",
            "|---|---|---|---|",
        ]
        for c in content["most_confused"]:
            lines.append(f"| {c['label']} | {c['predicted']} | {c['videos']} | {100 * c['share']:.1f}% |")
    missing = [c["label"] for c in content["classes"] if not c["videos"]]
    if missing:
        lines += ["", f"Classes without a video: {', '.join(missing)}."]
    if failures:
        lines += ["", "## Videos that could not be decoded", ""]
        lines += [f"- `{failure['path']}`: {failure['reason']}" for failure in failures]
    return "\n".join(lines) + "\n"


def _calibration_lines(about: dict[str, Any]) -> list[str]:
    lines = ["", "## Calibration", "", "| | expected calibration error | negative log-likelihood |", "|---|---|---|"]
    for name, shown in (("as_trained", "as trained"), ("with_temperature", f"temperature {about['temperature']}")):
        if name in about:
            each = about[name]
            lines.append(f"| {shown} | {100 * each['expected_error']:.2f}% | {each['negative_log_likelihood']:.4f} |")
    return [*lines, "", "![reliability](reliability.png)"]
