"""A run's figures beside its checkpoints: config.yaml, metrics.csv, steps.csv and pictures."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from farfield.atomic_write import atomic_write
from farfield.evaluation.plots import plot_confusion
from farfield.training.lightning_module import TrainingModule

log = logging.getLogger("farfield")

REDRAW_SECONDS = 10.0
"""Drawing takes a third of a second, which may be as long as an epoch of a few dozen clips."""


class RunFiles(Callback):
    """Writes a run's config and figures beside its checkpoints: config.yaml, metrics.csv, steps.csv and PNGs.

    metrics.csv has a row per epoch, steps.csv one every log_every_n_steps: reading a loss makes the device wait.

    A row is there as soon as its epoch or step is over. When a run resumes, rows after its checkpoint go. Pictures are
    drawn anew after an epoch, though not more often than every REDRAW_SECONDS, and when the run ends, unless it is
    killed.
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
        self._last_step = 0
        self._has_validated = False
        self._confusion: tuple[Tensor, Sequence[str]] | None = None
        self._drawn_at = -math.inf
        self._has_new_rows = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # only now: a resume that was refused leaves the run's config as it was
            self.config_path.write_text(self.config)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            keep_rows(self.steps_path, self.STEP_COLUMNS, trainer.global_step)
            keep_rows(self.metrics_path, self.EPOCH_COLUMNS, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.is_global_zero and every and step % every == 0 and step > self._last_step:
            self._last_step = step  # with accumulated gradients, several batches share a step
            assert isinstance(pl_module, TrainingModule)
            lr, loss = pl_module.last_lr, float(pl_module.last_loss)
            append_row(self.steps_path, [step, trainer.current_epoch, f"{lr:.8g}", f"{loss:.8g}"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._has_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        has_validated, self._has_validated = self._has_validated, False
        if not trainer.is_global_zero:
            return
        figures = {name.removesuffix("_epoch"): float(value) for name, value in trainer.callback_metrics.items()}
        if not has_validated:  # Lightning keeps those of an earlier epoch
            figures = {name: value for name, value in figures.items() if not name.startswith("val/")}
        known = {"epoch": str(trainer.current_epoch), "step": str(trainer.global_step)}
        known |= {name: f"{value:.6g}" for name, value in figures.items()}
        append_row(self.metrics_path, [known.get(name, "") for name in self.EPOCH_COLUMNS])
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
        except Exception as error:  # the reason that the run stops for is the one to be told
            log.warning("%s was not drawn again: %s", self.curves_path, error)

    def _draw(self) -> None:
        if not self._has_new_rows:
            return
        if self._confusion is not None:
            plot_confusion(*self._confusion, self.confusion_path)
        plot_curves(self.metrics_path).savefig(self.curves_path, dpi=120)
        self._drawn_at, self._has_new_rows = time.monotonic(), False


def plot_curves(metrics_path: Path) -> Figure:
    """Draws loss and accuracy over the epochs of a metrics.csv."""
    with metrics_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    for axes, name, label in (
        (losses, "train/loss", "training"),
        (losses, "val/loss", "validation"),
        (accuracies, "train/top1", "training top-1"),
        (accuracies, "val/top1", "validation top-1"),
        (accuracies, "val/mean_class_accuracy", "validation, class mean"),
    ):
        points = [(int(row["epoch"]) + 1, float(row[name])) for row in rows if row[name]]
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "", label=label)
    losses.set_ylabel("loss")
    accuracies.set_ylabel("accuracy")
    accuracies.set_ylim(0, 1.02)
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def plot_gradient_norms(path: Path) -> Figure:
    """Draws the norms of the stages' gradients over the steps of a gradient_norms.csv."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.0), layout="constrained")
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


def append_row(path: Path, row: list[Any]) -> None:
    """Adds a row to a CSV."""
    with path.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(row)


def keep_rows(path: Path, columns: Sequence[str], last_step: int) -> None:
    """Begins a CSV, or takes the rows of later steps away, where a run that is resumed writes them anew."""
    rows: list[list[str]] = []
    if path.is_file():
        with path.open(newline="") as file:
            rows = [
                row for row in list(csv.reader(file))[1:] if len(row) == len(columns)
            ]  # a killed run may cut one off
    place = list(columns).index("step")
    kept = [row for row in rows if int(row[place]) <= last_step]
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([list(columns), *kept])
