"""What happens beside the training step: random state, files of the run, videos that could not be read, throughput."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from matplotlib.figure import Figure

from farfield.evaluation import plot_confusion
from farfield.training.module import ActionRecognizer, gather

log = logging.getLogger("farfield")


def checkpoints(folder: Path, *, every_n_steps: int | None, has_validation: bool) -> list[Callback]:
    """Keeps last.ckpt, after each epoch and every so many steps, and best.ckpt, by validation top-1.

    The file names do not change, and each file is replaced whole, so that a killed run finds a good one.
    """
    fixed: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
    kept: list[Callback] = [ModelCheckpoint(**fixed, filename="last", every_n_epochs=1, save_on_train_epoch_end=True)]
    if every_n_steps is not None:
        kept.append(_MidEpochCheckpoint(**fixed, filename="last", every_n_train_steps=every_n_steps))
    if has_validation:
        kept.append(
            _BestCheckpoint(**fixed, filename="best", monitor="val/top1", mode="max", save_on_train_epoch_end=False)
        )
    return kept


class _MidEpochCheckpoint(ModelCheckpoint):
    """Saves after whole optimiser steps only, and leaves an epoch's last batch to the epoch's own checkpoint.

    Gradients accumulated so far are in no checkpoint; and resumed from the last batch, Lightning skips the validation.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class _BestCheckpoint(ModelCheckpoint):
    """Gives a tie to the later epoch: small validation splits tie often, and a network goes on learning meanwhile."""

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        return super().check_monitor_top_k(trainer, current) or (
            current is not None and current == self.best_model_score
        )


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there, whole or not at all.

    Lightning's own writes to the folder for temporary files; where that is another file system, moving it is a copy,
    and a run that is killed meanwhile loses the checkpoint that it would have gone on from.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        torch.save(checkpoint, partial)
        partial.replace(path)


class RandomState(Callback):
    """Keeps torch's generators in checkpoints, so that dropout goes on as if the run had never stopped.

    Lightning restores none. They are kept as tensors, which `weights_only` loads.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_state"] = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(pl_module.device) if pl_module.device.type == "cuda" else None,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint.get("random_state", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._restored:
            torch.set_rng_state(self._restored["cpu"].cpu())
            if self._restored["cuda"] is not None and pl_module.device.type == "cuda":
                torch.cuda.set_rng_state(self._restored["cuda"].cpu(), pl_module.device)


class SkippedVideos(Callback):
    """Names every video that could not be read, once in the log and in skipped_videos.csv, and counts them.

    Of several processes, each but the first has a file of its own, skipped_videos.rank1.csv and so on.
    """

    FILE = "skipped_videos.csv"

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / self.FILE
        self.seen: dict[str, str] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            self.path = self.path.with_name(f"skipped_videos.rank{trainer.global_rank}.csv")
        if self.path.is_file():  # of the same run before it was resumed
            with self.path.open(newline="") as file:
                self.seen = {row["path"]: row["reason"] for row in csv.DictReader(file)}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(batch.failures, "another of the same class takes its place")
        pl_module.log("skipped_videos", float(len(self.seen)), batch_size=1)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._note(batch.failures, "it is left out of the validation")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seen:
            log.warning("%d videos could not be read; %s names them.", len(self.seen), self.path)

    def _note(self, failures: list[tuple[str, str]], consequence: str) -> None:
        new = {path: reason for path, reason in failures if path not in self.seen}
        if not new:
            return
        begin = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if begin:
                writer.writerow(["path", "reason"])
            for path, reason in new.items():
                writer.writerow([path, reason])
                log.warning("skipped %s: %s; %s.", path, reason, consequence)
        self.seen |= new


class Failures(Callback):
    """Gathers (path, reason) of every test video that could not be read."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.found += [(path, reason) for path, reason in batch.failures]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            self.found = gather(self.found)


class Throughput(Callback):
    """Logs clips per second, and the share of the time that training waited for the loader."""

    def __init__(self) -> None:
        self._start = self._waiting_since = time.perf_counter()
        self._waited = 0.0
        self._clips = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin()  # a run resumed in the middle of an epoch starts none

    def _begin(self) -> None:
        self._start = self._waiting_since = time.perf_counter()
        self._waited, self._clips = 0.0, 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._waited += time.perf_counter() - self._waiting_since

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._clips += len(batch.labels)
        self._waiting_since = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = max(self._waiting_since - self._start, 1e-9)
        rate = self._clips * trainer.world_size / seconds
        pl_module.log_dict({"clips_per_second": rate, "loader_wait_share": self._waited / seconds}, batch_size=1)


class RunFiles(Callback):
    """Writes a run's config and figures beside its checkpoints: config.yaml, metrics.csv, steps.csv and PNGs.

    metrics.csv has a row per epoch, steps.csv one every log_every_n_steps: reading a loss makes the device wait.

    A row is there as soon as its epoch or step is over. When a run resumes, rows after its checkpoint go.
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

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # only now: a resume that was refused leaves the run's config as it was
            self.config_path.write_text(self.config)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            _keep_rows(self.steps_path, self.STEP_COLUMNS, trainer.global_step)
            _keep_rows(self.metrics_path, self.EPOCH_COLUMNS, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.is_global_zero and every and step % every == 0 and step > self._last_step:
            self._last_step = step  # with accumulated gradients, several batches share a step
            assert isinstance(pl_module, ActionRecognizer)
            lr, loss = pl_module.last_lr, float(pl_module.last_loss)
            _append(self.steps_path, [step, trainer.current_epoch, f"{lr:.8g}", f"{loss:.8g}"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        figures = {name.removesuffix("_epoch"): float(value) for name, value in trainer.callback_metrics.items()}
        known = {"epoch": str(trainer.current_epoch), "step": str(trainer.global_step)}
        known |= {name: f"{value:.6g}" for name, value in figures.items()}
        _append(self.metrics_path, [known.get(name, "") for name in self.EPOCH_COLUMNS])
        assert isinstance(pl_module, ActionRecognizer)
        if pl_module.val_confusion_matrix is not None:
            plot_confusion(pl_module.val_confusion_matrix.cpu(), pl_module.network.labels, self.confusion_path)
        plot_curves(self.metrics_path).savefig(self.curves_path, dpi=120)


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


def _append(path: Path, row: list[Any]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(row)


def _keep_rows(path: Path, columns: tuple[str, ...], last_step: int) -> None:
    rows: list[list[str]] = []
    if path.is_file():
        with path.open(newline="") as file:
            rows = [
                row for row in list(csv.reader(file))[1:] if len(row) == len(columns)
            ]  # a killed run may cut one off
    place = columns.index("step")
    kept = [row for row in rows if int(row[place]) <= last_step]
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([list(columns), *kept])
    partial.replace(path)
