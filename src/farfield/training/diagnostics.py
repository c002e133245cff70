"""Diagnostics from one validation run: metrics with confidence intervals, calibration, tables, plots and clips.

The diagnostics are computed once, and shown in both report.html and Weights & Biases.
"""

from __future__ import annotations

import logging
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
from farfield.evaluation.resampling import sampling_units
from farfield.interpretability.attention_maps import attention_maps, draw_attention
from farfield.layers import diagnose
from farfield.lightning_compat import data_module
from farfield.reports.page_content import ShownClip, Table, read_table
from farfield.reports.training_report import TrainingReport
from farfield.training.lightning_module import TrainingModule
from farfield.training.multilabel_diagnostics import MultilabelDiagnostics
from farfield.training.run_folder import plot_curves, plot_gradient_norms
from farfield.training.single_label_diagnostics import SingleLabelDiagnostics

log = logging.getLogger("farfield")


@dataclass
class Diagnostics:
    """Diagnostics from one validation run.

    Attributes:
        epoch: epoch after which the validation ran, counted from 0.
        step: number of optimiser steps done before the validation.
        validation: table of the metrics with their confidence intervals (if these were computed), followed by figures
            that never have an interval, such as the expected calibration error.
        expected_calibration_error: expected calibration error, in [0, 1].
        tables: other tables by name, for example "classes" and "batch_norms".
        pictures: plots by name, for example "reliability".
        clips: two lists of clips with captions, by name. "most_confidently_wrong" has the most confident errors.
            "predicted_clips" has clips of a selection of videos that is the same for every validation.
    """

    epoch: int
    step: int
    validation: Table
    expected_calibration_error: float
    tables: dict[str, Table] = field(default_factory=dict)
    pictures: dict[str, Figure] = field(default_factory=dict)
    clips: dict[str, list[ShownClip]] = field(default_factory=dict)


_HEADINGS = {
    "confusion_matrix": "Confusion matrix",
    "precision_recall": "Precision and recall",
    "roc": "ROC",
    "reliability": "Reliability",
}
"""Heading in the report for each validation plot, by the plot's name."""


def gather_diagnostics(
    trainer: Trainer, module: TrainingModule, training_clips: Tensor | None, *, num_clips: int
) -> Diagnostics | None:
    """Gather diagnostics from the validation run that has just ended.

    Returns None if no video could be read. The network's task must not be `multi_head`.

    Args:
        trainer: trainer of the run. Its data module reads again each validation clip that the diagnostics show.
        module: module of the run, still with the weights that were validated.
        training_clips: clips of the last training batch, on the network's device, for the batch-norm diagnostics; None
            to leave these diagnostics out.
        num_clips: number of clips in each of two lists: the most confident errors, and a selection of videos that is
            the same for every validation.
    """
    scored = [part for part in module.val_scores if len(part[0])]
    if not scored:
        return None
    rows, targets, probabilities = (torch.cat(parts) for parts in zip(*scored, strict=True))
    labels, videos = module.network.labels, data_module(trainer).validation_videos(rows.tolist())
    groups = [video.group for video in videos]
    units = sampling_units(groups if any(groups) else None, [video.path for video in videos])
    measured: MultilabelDiagnostics | SingleLabelDiagnostics
    if module.network.task == "multilabel":
        measured = MultilabelDiagnostics(probabilities, targets, labels, units)
    else:
        measured = SingleLabelDiagnostics(probabilities, targets, labels, units)
    error = measured.calibration.expected_error
    found = Diagnostics(trainer.current_epoch, trainer.global_step, measured.validation_table(), error)
    found.tables["classes"] = measured.class_table()
    if (confused := measured.confusion_table()) is not None:
        found.tables["most_confused"] = confused
    found.pictures |= measured.plots()

    fixed = torch.unique(torch.linspace(0, len(rows) - 1, min(num_clips, len(rows))).long())
    order = rows.argsort()  # the same videos each time, in whatever order the processes scored them
    shown = [(place, measured.caption(place)) for place in order[fixed].tolist()]
    for name, places in (
        ("most_confidently_wrong", measured.most_confidently_wrong(num_clips)),
        ("predicted_clips", shown),
    ):
        found.clips[name] = []
        for place, caption in places:
            _show_clip(found, trainer, module, name, int(rows[place]), caption)
    if training_clips is not None:
        with trainer.precision_plugin.forward_context():
            found.tables["batch_norms"] = norm_table(module, training_clips)
    return found


def _show_clip(found: Diagnostics, trainer: Trainer, module: TrainingModule, name: str, row: int, caption: str) -> None:
    """Read a validation video's clip again, and add it to `found`. If the video cannot be read, nothing is added.

    Args:
        found: diagnostics to change.
        trainer: trainer of the run, whose data module reads the clip.
        module: module whose network draws the attention maps.
        name: list in `found.clips` to which the clip is added. For "predicted_clips", a plot of the clip's attention
            maps, if the network has any, is also added to `found.pictures`.
        row: row index of the video in the validation manifest. If `data.untrimmed` is set, this is the number of the
            clip's window instead (see `ValidationWindows`).
        caption: caption of the clip.
    """
    batch = data_module(trainer).validation_batch([row])
    if not len(batch.labels):
        return
    frames = shown_frames(batch.clips, module.network.clip)[0]
    found.clips[name].append(ShownClip(frames, caption))
    if name == "predicted_clips":
        clip = batch.clips.to(module.device)
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            maps = attention_maps(module.network, clip)
        if maps:
            number = len(found.clips[name]) - 1
            found.pictures[f"attention_{number}"] = draw_attention(frames, maps[-3:], title=caption)


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
        validation=found.validation,
        curves=curves,
        classes=found.tables["classes"],
        most_confused=found.tables.get("most_confused"),
        plots={heading: found.pictures[name] for name, heading in _HEADINGS.items() if name in found.pictures},
        most_confidently_wrong=found.clips.get("most_confidently_wrong", []),
        predicted_clips=found.clips.get("predicted_clips", []),
        attention=[figure for name, figure in found.pictures.items() if name.startswith("attention")],
        batch_norms=found.tables.get("batch_norms"),
        epochs=read_table(run_dir / "metrics.csv"),
        about=about,
        config=config,
    )


def norm_table(module: TrainingModule, clips: Float[Tensor, "b 3 t h w"]) -> Table:
    """Run the batch-norm diagnostics on a training batch, and return them as a table, one row per norm."""
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
