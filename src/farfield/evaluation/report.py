"""The test report: JSON for programs, Markdown and a confusion matrix for people, predictions per video as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from farfield.evaluation.metrics import Metrics, measure
from farfield.evaluation.plots import plot_confusion


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that an evaluation brought out.

    Attributes:
        labels: class names.
        paths: the videos that were scored.
        targets: their classes.
        probabilities: their scores, averaged over views.
        failures: (path, reason) of every video that could not be read; they are in no metric.
    """

    labels: Sequence[str]
    paths: Sequence[str]
    targets: Int[Tensor, " n"]
    probabilities: Float[Tensor, "n classes"]
    failures: Sequence[tuple[str, str]]

    def metrics(self) -> Metrics:
        return measure(self.probabilities, self.targets)


def write_report(result: EvaluationResult, folder: str | Path, about: dict[str, Any]) -> dict[str, Any]:
    """Writes report.json, report.md, confusion_matrix.png and predictions.csv.

    Args:
        result: what to report.
        folder: where to write; it is made if need be.
        about: what was evaluated and how, for the report's head.

    Returns:
        The content of report.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = result.metrics()
    content = _as_dict(result, metrics, about)
    (folder / "report.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "report.md").write_text(_as_markdown(content))
    plot_confusion(metrics.confusion, result.labels, folder / "confusion_matrix.png")
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "predicted", "probability", "probability_of_label"])
        for path, target, scores in zip(result.paths, result.targets.tolist(), result.probabilities, strict=True):
            best = int(scores.argmax())
            row = [path, result.labels[target], result.labels[best], f"{scores[best]:.6f}", f"{scores[target]:.6f}"]
            writer.writerow(row)
    return content


def _as_dict(result: EvaluationResult, metrics: Metrics, about: dict[str, Any]) -> dict[str, Any]:
    confusion = metrics.confusion
    classes = []
    for i, label in enumerate(result.labels):
        videos, correct = int(confusion[i].sum()), int(confusion[i, i])
        others = confusion[i].clone()
        others[i] = 0
        taken_for = result.labels[int(others.argmax())] if int(others.sum()) else None
        accuracy = correct / videos if videos else None
        classes.append({"label": label, "videos": videos, "accuracy": accuracy, "most_often_taken_for": taken_for})
    return {
        **about,
        "videos": len(result.paths),
        "top1": asdict(metrics.top1),
        "top5": asdict(metrics.top5),
        "mean_class_accuracy": asdict(metrics.mean_class_accuracy),
        "confidence": 0.95,
        "classes": classes,
        "confusion_matrix": confusion.tolist(),
        "undecodable_videos": [{"path": path, "reason": reason} for path, reason in result.failures],
    }


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
    lines += ["", "![confusion matrix](confusion_matrix.png)", "", "## Classes, hardest first", ""]
    lines += ["| class | videos | accuracy | most often taken for |", "|---|---|---|---|"]
    with_videos = [c for c in content["classes"] if c["videos"]]
    for c in sorted(with_videos, key=lambda c: c["accuracy"]):
        lines.append(
            f"| {c['label']} | {c['videos']} | {100 * c['accuracy']:.1f}% | {c['most_often_taken_for'] or ''} |"
        )
    missing = [c["label"] for c in content["classes"] if not c["videos"]]
    if missing:
        lines += ["", f"Classes without a video: {', '.join(missing)}."]
    if failures:
        lines += ["", "## Videos that could not be decoded", ""]
        lines += [f"- `{failure['path']}`: {failure['reason']}" for failure in failures]
    return "\n".join(lines) + "\n"
