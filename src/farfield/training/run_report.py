"""Write the diagnostics of validations to report.html and Weights & Biases."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.reports.training_report import write_training_report
from farfield.training.diagnostics import Diagnostics, gather_diagnostics, training_report
from farfield.training.execution import run_eagerly
from farfield.training.lightning_module import TrainingModule
from farfield.training.wandb_logging import log_diagnostics

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class ReportSettings:
    """Settings of report.html and the media in Weights & Biases.

    Args:
        every_n_epochs: number of epochs between reports; 0 turns all reports off. With other numbers, the last epoch
            has a report, too. An epoch without a validation never has a report, even if it is the last one. Runs of a
            `multi_head` network have no reports.
        num_clips: number of clips in each of two lists: the most confident errors, and a selection of videos that is
            the same in every report. Only the selection is shown with attention maps.
    """

    every_n_epochs: int = 1
    num_clips: int = 4

    def __post_init__(self) -> None:
        if self.every_n_epochs < 0 or self.num_clips < 0:
            raise FarfieldError(
                f"report.every_n_epochs is {self.every_n_epochs} and report.num_clips is {self.num_clips}; both must "
                "be at least 0."
            )


class RunReport(Callback):
    """Compute diagnostics after a validation, and report them at the end of the epoch.

    The diagnostics use the weights that were validated: with `ema_decay`, the averaged weights.

    Args:
        run_dir: run folder.
        settings: report settings.
        about: provenance of the run, shown in the report.
        config: every resolved value of the config, as YAML.
    """

    FILE = "report.html"

    def __init__(self, run_dir: Path, settings: ReportSettings, about: dict[str, Any], config: str) -> None:
        self.run_dir = run_dir
        self.settings = settings
        self.about = about
        self.config = config
        self._has_report = True
        self._training_clips: Tensor | None = None
        self._found: Diagnostics | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self._has_report = pl_module.network.task != "multi_head"
        if trainer.is_global_zero and self.settings.every_n_epochs and not self._has_report:
            log.info("%s is not written for a 'multi_head' task; metrics.csv has the accuracy of each head", self.FILE)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and self._is_due(trainer):
            self._training_clips = batch.clips

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        clips, self._training_clips = self._training_clips, None
        if trainer.sanity_checking or not trainer.is_global_zero or not self._is_due(trainer):
            return
        assert isinstance(pl_module, TrainingModule)
        training = pl_module.training
        pl_module.eval()
        try:
            with run_eagerly():
                self._found = gather_diagnostics(trainer, pl_module, clips, num_clips=self.settings.num_clips)
        except Exception:  # a failed report must not end the run
            log.warning(
                "epoch %d has no report, since its diagnostics failed", trainer.current_epoch + 1, exc_info=True
            )
        pl_module.train(training)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found, self._found = self._found, None
        if found is None:
            return
        try:
            report = training_report(found, run_dir=self.run_dir, about=self.about, config=self.config)
            write_training_report(self.run_dir / self.FILE, report)
            if isinstance(trainer.logger, WandbLogger):
                log_diagnostics(trainer.logger, found)
        except Exception:  # a failed report must not end the run
            log.warning(
                "the report of epoch %d could not be written; training continues", found.epoch + 1, exc_info=True
            )

    def _is_due(self, trainer: Trainer) -> bool:
        every, epoch = self.settings.every_n_epochs, trainer.current_epoch + 1
        is_last = epoch == trainer.max_epochs or trainer.should_stop or trainer.global_step == trainer.max_steps
        return self._has_report and bool(every) and (epoch % every == 0 or is_last)
