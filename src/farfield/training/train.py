"""Train a network from a config."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from farfield.argument_types import checked_arguments
from farfield.checkpoints.checkpoint import read_checkpoint
from farfield.errors import FarfieldError
from farfield.lightning_errors import lightning_errors_as_ours
from farfield.memory_errors import out_of_memory_as_ours
from farfield.plain_types import plain
from farfield.probing.result import ProbeResult
from farfield.training.checkpointing import best_metric
from farfield.training.config import TrainingRun, make_run
from farfield.training.norm_layers import small_batches_as_ours
from farfield.training.probe_run import train_probe
from farfield.training.resume import prepare_resume

log = logging.getLogger("farfield")

LESS_MEMORY = "Give a smaller data.batch_size or data.num_workers, or smaller clips (model.clip)."
"""Advice for a training or probe for which the machine has too little memory."""
LESS_GPU_MEMORY = (
    "What needs less, in the order to try, if not set already: trainer.precision bf16-mixed, "
    "model.execution.recompute_sums 2, model.execution.recompute_stages [res2,res3] (a transformer: [layers]), a "
    "smaller data.batch_size with trainer.accumulate_grad_batches. data.batch_size is {batch_size}."
)
"""Advice for a training for which the GPU has too little memory; docs/explanations/memory.md explains the options."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run.

    Attributes:
        run_dir: folder with everything that the run wrote.
        last_checkpoint: checkpoint of the last epoch; None if none was written.
        best_checkpoint: checkpoint of the epoch with the best value of `monitor`; for a probe, of the best head. None
            without validation.
        best_epoch: epoch of the best checkpoint, counted from 1; None without validation, or for a probe.
        best_top1: val/top1 of the best checkpoint, in [0, 1]; None without validation, or if `monitor` is another
            metric.
        metrics: last value of each logged metric, by name, for example "train/loss" and "val/top1".
        epochs: number of epochs trained, including those before a resume.
        steps: number of optimiser steps, including those before a resume.
        was_complete: whether the run was resumed but had nothing left to train.
        monitor: metric that chose the best checkpoint, for example "val/top1"; None without validation.
        best_value: value of `monitor` at the best checkpoint; None without validation.
        probe: result of a probe (heads trained on a frozen network); None if the network itself was trained. A probe
            has no last checkpoint and no epochs.
    """

    run_dir: Path
    last_checkpoint: Path | None
    best_checkpoint: Path | None
    best_epoch: int | None
    best_top1: float | None
    metrics: dict[str, float]
    epochs: int
    steps: int
    was_complete: bool = False
    monitor: str | None = None
    best_value: float | None = None
    probe: ProbeResult | None = None


@checked_arguments
def train(
    config: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a network from a config.

    Args:
        config: a YAML file, or the name of a recipe that ships with farfield (`farfield configs` lists them). None if
            `overrides` gives all options.
        overrides: options by name, which override the config, for example {"trainer.max_epochs": 5, "run_dir":
            "runs/mine"}. `farfield fit --help` lists the options.
        resume: resume from the run folder's last checkpoint, if there is one.
        progress: show Lightning's progress bar and its table of the network.

    Raises:
        FarfieldError: if options are unknown, out of range or incompatible; if files cannot be read; if `resume` is
            False, but the run folder already holds a run; or if memory is exhausted.
        KeyboardInterrupt: if interrupted; `resume=True` continues from the last checkpoint.

    Example:
        result = farfield.train("figures_tiny_nl2", {"trainer.max_epochs": 1, "run_dir": "runs/first"})
        result.metrics["val/top1"], result.best_checkpoint
        result = farfield.train("my.yaml", {"probe": {"heads": ["linear"], "test": "test.csv"}})
        result.probe.test.metrics().top1, result.probe.curve
    """
    arguments = [] if config is None else ["--config", str(config)]
    arguments += [f"--{name}={_as_word(value)}" for name, value in (overrides or {}).items()]
    if resume:
        arguments.append("--resume=true")
    if not progress:
        arguments += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    run = make_run(arguments)
    try:
        return train_run(run)
    except SystemExit as error:  # Lightning's, of an interrupt
        raise KeyboardInterrupt from error


def _as_word(value: Any) -> str:
    """Format a value as a command-line argument."""
    if isinstance(value, str | Path):
        return str(value)
    try:
        return json.dumps(plain(value), default=os.fspath)
    except TypeError as error:
        raise FarfieldError(
            f"overrides has the value {value!r}, which is not supported. Give text, numbers, True, False, None, lists "
            "or dicts."
        ) from error


def train_run(run: TrainingRun) -> TrainResult:
    """Run the training that `make_run` has set up, from its last checkpoint if there is one.

    Raises:
        FarfieldError: if the run cannot be resumed from its last checkpoint, an option is not supported, batches are
            too small for the batch norms, or memory is exhausted.
        KeyboardInterrupt, SystemExit: if interrupted.
    """
    if run.probe is not None:
        with out_of_memory_as_ours(LESS_MEMORY):
            return _probe(run)
    resumed = run.last_checkpoint if run.last_checkpoint.exists() else None
    done = -1
    if resumed is not None:
        done = prepare_resume(resumed, run.model)
        log.info("resuming from %s", resumed)
    elif run.config.resume:
        log.info("%s holds no checkpoint to resume from, so a new run begins", run.run_dir)
    _check_epoch(run)
    on_gpu = LESS_GPU_MEMORY.format(batch_size=run.datamodule.batch_size)
    exit_code = 1
    try:
        out_of_memory = out_of_memory_as_ours(LESS_MEMORY, on_gpu=on_gpu)
        with lightning_errors_as_ours(), out_of_memory, small_batches_as_ours():
            run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=resumed, weights_only=True)
        exit_code = 0
    finally:
        if isinstance(run.trainer.logger, WandbLogger):
            run.trainer.logger.experiment.finish(exit_code=exit_code)  # writes what is still buffered
    return _result(run, was_complete=run.trainer.global_step == done)


def _check_epoch(run: TrainingRun) -> None:
    """Check that the training videos are enough for the options.

    Raises:
        FarfieldError: if `val_check_interval` is more batches than an epoch has; or if there are too few videos for a
            whole batch, and the parts of `sub_batch_norm_splits` would have unequal numbers of clips.
    """
    trainer, batches = run.trainer, run.datamodule.batches_per_epoch()
    interval = trainer.val_check_interval
    if isinstance(interval, int) and trainer.check_val_every_n_epoch is not None and interval > batches:
        raise FarfieldError(
            f"trainer.val_check_interval is {interval}, but an epoch has {batches} batches. Lower it, or set "
            "trainer.check_val_every_n_epoch to null to count batches over several epochs."
        )
    clips, splits = run.datamodule.clips_per_batch(), run.model.optimisation.sub_batch_norm_splits
    if clips % splits:
        raise FarfieldError(
            f"the training videos give batches of {clips} clips, fewer than data.batch_size "
            f"({run.datamodule.batch_size}). {clips} is not a multiple of optimisation.sub_batch_norm_splits "
            f"({splits}). Lower data.batch_size to a multiple of it, change sub_batch_norm_splits, or add videos."
        )


def _probe(run: TrainingRun) -> TrainResult:
    result = train_probe(run)
    best = result.best
    value = best.figures[result.monitor]
    return TrainResult(
        run_dir=run.run_dir,
        last_checkpoint=None,
        best_checkpoint=result.checkpoint,
        best_epoch=None,
        best_top1=value if result.monitor == "val/top1" else None,
        metrics=dict(best.figures),
        epochs=0,
        steps=0,
        monitor=result.monitor,
        best_value=value,
        probe=result,
    )


def _logged_metrics(run_dir: Path) -> dict[str, float]:
    """Return the last epoch's metrics from metrics.csv, for a resumed run with nothing left to train."""
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: float(value) for name, value in (rows[-1] if rows else {}).items() if value}


def _result(run: TrainingRun, *, was_complete: bool) -> TrainResult:
    last, best = run.last_checkpoint, run.last_checkpoint.with_name("best.ckpt")
    best_epoch: int | None = None
    name: str | None = None
    value: float | None = None
    if best.exists():
        content = read_checkpoint(best)
        best_epoch = content["epoch"] + 1
        if (metric := best_metric(content)) is not None:
            name, value = metric
    return TrainResult(
        run.run_dir,
        last if last.exists() else None,
        best if best.exists() else None,
        best_epoch,
        value if name == "val/top1" else None,
        {name: float(value) for name, value in run.trainer.callback_metrics.items()} or _logged_metrics(run.run_dir),
        run.trainer.current_epoch,
        run.trainer.global_step,
        was_complete,
        name,
        value,
    )
