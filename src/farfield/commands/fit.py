"""`farfield fit`: train a network from a config."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from farfield.commands.console import quiet_libraries
from farfield.commands.probe_summary import probe_summary
from farfield.lightning_compat import process_rank
from farfield.training.config import make_run
from farfield.training.monitor import format_metric
from farfield.training.train import TrainResult, train_run

log = logging.getLogger("farfield")


def fit(arguments: Sequence[str]) -> int:
    """Train a network with the given options; `farfield fit --help` lists all options."""
    quiet_libraries()
    if process_rank():
        log.setLevel(logging.WARNING)  # the first process logs for all
    run = make_run(arguments)
    try:
        result = train_run(run)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        if run.trainer.received_sigterm:
            log.warning("terminated; resume with the same command and --resume true")
            return 143
        resumes = run.last_checkpoint.exists() or run.probe is not None  # a probe keeps its features
        kept = "resume with" if resumes else "nothing was saved yet; start again with"
        log.warning("interrupted; %s the same command and --resume true", kept)
        return 130
    if result.probe is not None:
        print(probe_summary(result.probe, result.run_dir))
        return 0
    if result.was_complete:
        log.info("nothing was left to train: the run is complete. Raise trainer.max_epochs or max_steps to continue")
        if run.model.optimisation.schedule == "cosine":
            log.info("the cosine schedule has ended too; see model.optimisation.schedule_length in farfield fit --help")
    _log_checkpoints(result)
    return 0


def _log_checkpoints(result: TrainResult) -> None:
    best, metric, value = result.best_checkpoint, result.monitor, result.best_value
    if best is not None and metric is not None and value is not None:
        shown = format_metric(metric, value)
        assert result.best_epoch is not None
        log.info(
            "best checkpoint: %s, of epoch %d, with %s %s (epoch %d in metrics.csv, which counts from 0)",
            best,
            result.best_epoch,
            metric,
            shown,
            result.best_epoch - 1,
        )
    elif result.last_checkpoint is not None:
        log.info("checkpoint: %s. There is no best.ckpt, because no epoch was validated", result.last_checkpoint)
