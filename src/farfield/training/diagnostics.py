"""Diagnostics of a validation: metrics with confidence intervals, calibration, tables, plots and clips.

The diagnostics are computed once, and shown in both report.html and Weights & Biases.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.evaluation.calibration import Calibration, calibration
from farfield.evaluation.metrics import Metrics, measure
from farfield.evaluation.plots import (
    NAMED_CLASSES,
    confused_pairs,
    names_with_numbers,
    plot_confusion,
    plot_reliability,
)
from farfield.interpretability.attention_maps import attention_maps, draw_attention
from farfield.layers import diagnose
from farfield.lightning_compat import data_module
from farfield.reports.page_content import ShownClip, Table, read_table
from farfield.reports.training_report import TrainingReport
from farfield.training.lightning_module import TrainingModule
from farfield.training.run_folder import plot_curves, plot_gradient_norms

log = logging.getLogger("farfield")


@dataclass
class Diagnostics:
    """Diagnostics of a validation.

    Attributes:
        epoch: epoch after which the validation ran, counted from 0.
        step: number of optimiser steps done before the validation.
        metrics: metrics with their confidence intervals.
        calibration: calibration of the probabilities.
        tables: tables by name.
        pictures: plots by name.
        clips: clips by name.
    """

    epoch: int
    step: int
    metrics: Metrics
    calibration: Calibration
    tables: dict[str, Table] = field(default_factory=dict)
    pictures: dict[str, Figure] = field(default_factory=dict)
    clips: dict[str, list[ShownClip]] = field(default_factory=dict)


def gather_diagnostics(
    trainer: Trainer, module: TrainingModule, training_clips: Tensor | None, *, num_clips: int
) -> Diagnostics | None:
    """Gather the diagnostics of the validation that has just ended. Return None if no video could be read.

    Args:
        trainer: trainer whose data module reads the clips to show again.
        module: module with the validated weights.
        training_clips: clips of the last training batch, on the network's device, for the batch-norm diagnostics; None
            to leave these diagnostics out.
        num_clips: number of clips in each of two lists: the most confident errors, and the same videos after each
            validation.
    """
    scored = [part for part in module.val_scores if len(part[0])]
    if not scored:
        return None
    rows, targets, probabilities = (torch.cat(parts) for parts in zip(*scored, strict=True))
    labels, network = module.network.labels, module.network
    metrics, calibrated = measure(probabilities, targets), calibration(probabilities, targets)
    found = Diagnostics(trainer.current_epoch, trainer.global_step, metrics, calibrated)
    found.tables["classes"] = class_table(metrics, labels)
    if len(labels) > NAMED_CLASSES:
        found.tables["most_confused"] = confusion_table(metrics, labels)
    found.pictures["confusion_matrix"] = plot_confusion(metrics.confusion, labels)
    found.pictures["reliability"] = plot_reliability(calibrated)
    data = data_module(trainer)

    chances, guesses = probabilities.max(1)
    is_wrong = guesses != targets
    worst = chances.masked_fill(~is_wrong, -1).topk(min(num_clips, int(is_wrong.sum()))).indices
    fixed = torch.unique(torch.linspace(0, len(rows) - 1, min(num_clips, len(rows))).long())
    order = rows.argsort()  # the same videos each time, in whatever order the processes scored them
    for name, places in (("most_confidently_wrong", worst), ("predicted_clips", order[fixed])):
        found.clips[name] = []
        for place in places.tolist():
            batch = data.validation_batch([int(rows[place])])
            if not len(batch.labels):
                continue
            frames = shown_frames(batch.clips, network.clip)[0]
            truth, guess = labels[int(targets[place])], labels[int(guesses[place])]
            caption = f"{truth}, predicted as {guess} ({float(chances[place]):.0%})"
            found.clips[name].append(ShownClip(frames, caption))
            if name == "predicted_clips":
                clip = batch.clips.to(module.device)
                with torch.no_grad(), trainer.precision_plugin.forward_context():
                    maps = attention_maps(network, clip)
                if maps:
                    number = len(found.clips[name]) - 1
                    found.pictures[f"attention_{number}"] = draw_attention(frames, maps[-3:], title=caption)
    if training_clips is not None:
        with trainer.precision_plugin.forward_context():
            found.tables["batch_norms"] = norm_table(module, training_clips)
    return found


def training_report(found: Diagnostics, *, run_dir: Path, about: dict[str, Any], config: str) -> TrainingReport:
    """Build the content of a run's report.html.

    Args:
        found: diagnostics of the last validation.
        run_dir: folder with the run's metrics.csv and, if gradient norms are logged, gradient_norms.csv.
        about: versions, manifests and provenance of the run, by name.
        config: every value of the config, as YAML.
    """
    curves = {"curves": plot_curves(run_dir / "metrics.csv")}
    if (run_dir / "gradient_norms.csv").is_file():
        curves["gradient norms by stage"] = plot_gradient_norms(run_dir / "gradient_norms.csv")
    return TrainingReport(
        title=run_dir.name,
        epoch=found.epoch + 1,
        step=found.step,
        validation=validation_table(found),
        curves=curves,
        classes=found.tables["classes"],
        most_confused=found.tables.get("most_confused"),
        confusion_matrix=found.pictures["confusion_matrix"],
        reliability=found.pictures["reliability"],
        most_confidently_wrong=found.clips.get("most_confidently_wrong", []),
        predicted_clips=found.clips.get("predicted_clips", []),
        attention=[figure for name, figure in found.pictures.items() if name.startswith("attention")],
        batch_norms=found.tables.get("batch_norms"),
        epochs=read_table(run_dir / "metrics.csv"),
        about=about,
        config=config,
    )


def validation_table(found: Diagnostics) -> Table:
    """Tabulate the validation's metrics with 95% confidence intervals, and its expected calibration error."""
    metrics = {
        "top-1": found.metrics.top1,
        "top-5": found.metrics.top5,
        "mean class accuracy": found.metrics.mean_class_accuracy,
    }
    rows = [
        [name, f"{100 * each.value:.2f}%", f"{100 * each.low:.1f} to {100 * each.high:.1f}"]
        for name, each in metrics.items()
    ]
    rows.append(["expected calibration error", f"{100 * found.calibration.expected_error:.2f}%", ""])
    return Table(["validation", "value", "95% interval"], rows)


def class_table(metrics: Metrics, labels: Sequence[str]) -> Table:
    """Tabulate each class's accuracy, lowest first, and the class most often predicted for it by mistake.

    Classes without videos are left out.
    """
    rows: list[list[Any]] = []
    name = names_with_numbers(labels)
    for index, label in enumerate(labels):
        others = metrics.confusion[index].clone()
        videos, right = int(others.sum()), int(others[index])
        others[index] = 0
        if videos:
            taken_for = name[labels[int(others.argmax())]] if int(others.sum()) else ""
            rows.append([name[label], videos, round(right / videos, 4), taken_for])
    return Table(["class", "videos", "accuracy", "most often taken for"], sorted(rows, key=lambda row: row[2]))


def confusion_table(metrics: Metrics, labels: Sequence[str]) -> Table:
    """Tabulate the most frequently confused pairs of classes."""
    pairs = confused_pairs(metrics.confusion, labels)
    rows = [[pair["label"], pair["predicted"], pair["videos"], round(pair["share"], 4)] for pair in pairs]
    return Table(["class", "taken for", "videos", "share of the class"], rows)


def norm_table(module: TrainingModule, clips: Float[Tensor, "b 3 t h w"]) -> Table:
    """Tabulate the batch-norm diagnostics on a training batch."""
    columns = ["norm", "channels", "mean drift", "variance ratio", "dead", "exploding", "problems"]
    reports = diagnose(module.network, [clips])
    rows: list[list[Any]] = [
        [
            each.name,
            each.num_features,
            round(each.mean_drift, 4),
            round(each.var_ratio, 4),
            each.dead,
            each.exploding,
            "; ".join(each.problems),
        ]
        for each in reports
    ]
    return Table(columns, rows)


def shown_frames(clips: Float[Tensor, "b c t h w"], spec: ClipSpec) -> UInt8[np.ndarray, "b t h w c"]:
    """Convert normalised network input back to uint8 RGB frames."""
    pixels = clips.float().cpu().permute(0, 2, 3, 4, 1) * torch.tensor(spec.std) + torch.tensor(spec.mean)
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8).numpy()
