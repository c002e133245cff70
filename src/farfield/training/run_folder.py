"""Write the files of a run folder other than checkpoints: config.yaml, metrics.csv, steps.csv and plots."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from farfield.evaluation.plots import plot_confusion
from farfield.lightning_compat import log_every_n_steps
from farfield.training.csv_log import append_row, start_log
from farfield.training.lightning_module import TrainingModule
from farfield.training.validation_metrics import head_figures

log = logging.getLogger("farfield")

REDRAW_SECONDS = 10.0
"""Minimum seconds from the start of a run, or from the last drawing, until plots are drawn after an epoch.

Drawing takes tenths of a second.
"""


class RunFiles(Callback):
    """Write config.yaml, metrics.csv, steps.csv and plots to the run folder.

    metrics.csv has a row per epoch; for a `multi_head` task, it also has the accuracy of each head. steps.csv has a row
    only every `log_every_n_steps` steps, since reading a loss synchronises the host with the device. Rows are written
    immediately. When a run resumes, rows of steps after its checkpoint are dropped.

    Plots are drawn after an epoch if more than `REDRAW_SECONDS` have passed since the last drawing or, before the first
    drawing, since the start of the run. They are also drawn when the run ends, is interrupted or stops with an error,
    if an epoch has ended since the last drawing. They are not drawn if the run is killed.
    """

    EPOCH_COLUMNS = (
        "epoch",
        "step",
        "lr",
        "train/loss",
        "train/top1",
        "val/loss",
        "val/top1",
        "val/top5",
        "val/mean_class_accuracy",
        "val/map",
        "clips_per_second",
        "loader_wait_share",
        "skipped_videos",
    )
    STEP_COLUMNS = ("step", "epoch", "lr", "loss")

    def __init__(self, run_dir: Path, config: str) -> None:
        self.config_path = run_dir / "config.yaml"
        self.config = config
        self.metrics_path = run_dir / "metrics.csv"
        self.steps_path = run_dir / "steps.csv"
        self.curves_path = run_dir / "curves.png"
        self.confusion_path = run_dir / "confusion_matrix.png"
        self._columns: tuple[str, ...] = self.EPOCH_COLUMNS
        self._last_step = 0
        self._has_validated = False
        self._confusion: tuple[Tensor, Sequence[str]] | None = None
        self._drawn_at = time.monotonic()
        self._has_new_rows = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # not before: a refused resume must not change the file
            self.config_path.write_text(self.config)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            start_log(self.steps_path, self.STEP_COLUMNS, trainer.global_step)
            assert isinstance(pl_module, TrainingModule)
            self._columns = self.EPOCH_COLUMNS + head_figures(pl_module.network)
            start_log(self.metrics_path, self._columns, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, every = trainer.global_step, log_every_n_steps(trainer)
        if trainer.is_global_zero and every and step % every == 0 and step > self._last_step:
            self._last_step = step  # several batches share a step when gradients are accumulated
            assert isinstance(pl_module, TrainingModule)
            lr, loss = pl_module.last_lr, float(pl_module.last_loss)
            append_row(self.steps_path, [step, trainer.current_epoch, f"{lr:.8g}", f"{loss:.8g}"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._has_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        has_validated, self._has_validated = self._has_validated, False
        if not trainer.is_global_zero:
            return
        metrics = {name.removesuffix("_epoch"): float(value) for name, value in trainer.callback_metrics.items()}
        if not has_validated:  # Lightning still has those of an earlier epoch
            metrics = {name: value for name, value in metrics.items() if not name.startswith("val/")}
        known = {"epoch": str(trainer.current_epoch), "step": str(trainer.global_step)}
        known |= {name: f"{value:.6g}" for name, value in metrics.items()}
        append_row(self.metrics_path, [known.get(name, "") for name in self._columns])
        assert isinstance(pl_module, TrainingModule)
        if has_validated and pl_module.val_confusion_matrix is not None:
            self._confusion = pl_module.val_confusion_matrix.cpu(), pl_module.network.labels
        self._has_new_rows = True
        if time.monotonic() - self._drawn_at > REDRAW_SECONDS:
            self._draw()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        try:
            self._draw()
        except Exception as error:  # must not hide the exception that stops the run
            log.warning("%s could not be drawn: %s", self.curves_path, error)

    def _draw(self) -> None:
        if not self._has_new_rows:
            return
        if self._confusion is not None:
            plot_confusion(*self._confusion, self.confusion_path)
        plot_curves(self.metrics_path).savefig(self.curves_path, dpi=120)
        self._drawn_at, self._has_new_rows = time.monotonic(), False


def plot_curves(metrics_path: Path) -> Figure:
    """Plot loss and accuracy (for a multilabel task, mean average precision) over the epochs of a metrics.csv."""
    with metrics_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.4))
    losses, accuracies = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.1, right=0.99, bottom=0.15, top=0.92)  # twice as fast as a layout engine
    is_multilabel = any(row.get("val/map") and not row["val/top1"] for row in rows)
    if is_multilabel:
        shown = {"val/map": "validation"}
    else:
        shown = {
            "train/top1": "training top-1",
            "val/top1": "validation top-1",
            "val/mean_class_accuracy": "validation, class mean",
        }
    for axes, name, label in (
        (losses, "train/loss", "training"),
        (losses, "val/loss", "validation"),
        *((accuracies, name, label) for name, label in shown.items()),
    ):
        points = [(int(row["epoch"]) + 1, float(row[name])) for row in rows if row[name]]
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "", label=label)
    losses.set_ylabel("loss")
    accuracies.set_ylabel("mean average precision" if is_multilabel else "accuracy")
    accuracies.set_ylim(0, 1.02)
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    return figure


def plot_gradient_norms(path: Path) -> Figure:
    """Plot the gradient norm of each stage over the steps of a gradient_norms.csv."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.0))
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.16, top=0.96)
    axes = figure.add_subplot()
    for stage in [name for name in (rows[0] if rows else {}) if name != "step"]:
        points = [(int(row["step"]), float(row[stage])) for row in rows if row[stage]]
        if points:
            axes.plot(*zip(*points, strict=True), lw=1, marker="." if len(points) < 40 else "", label=stage)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("norm of the gradient")
    axes.grid(alpha=0.3)
    if rows:
        axes.legend(ncols=2, fontsize=8)
    return figure
