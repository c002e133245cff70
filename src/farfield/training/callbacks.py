"""What is watched beside the training step: videos that could not be read, and throughput."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from farfield.distributed import gather

log = logging.getLogger("farfield")


class SkippedVideos(Callback):
    """Names every video that could not be read, once in the log and in skipped_videos.csv, and counts them.

    Of several processes, each but the first has a file of its own, skipped_videos.rank1.csv and so on.
    """

    FILE = "skipped_videos.csv"

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / self.FILE
        self.seen: dict[str, str] = {}
        self._empty_classes: set[str] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            self.path = self.path.with_name(f"skipped_videos.rank{trainer.global_rank}.csv")
        if self.path.is_file():  # of the same run before it was resumed
            with self.path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                self.seen = {row["path"]: row["reason"] for row in csv.DictReader(file)}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(batch.failures, "another of the same class takes its place")
        for label in {each.empty_class for each in batch.failures} - {None} - self._empty_classes:
            self._empty_classes.add(label)
            log.warning(
                "the class %r is empty: none of its videos can be read, and videos of other classes take their place. "
                "Mend the manifest, or leave the class out.",
                label,
            )

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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        paths = list(self.seen) if trainer.world_size == 1 else gather(list(self.seen))
        pl_module.log("skipped_videos", float(len(set(paths))), batch_size=1, sync_dist=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seen:
            log.warning("%d videos could not be read; %s names them.", len(self.seen), self.path)

    def _note(self, failures: Sequence[Any], consequence: str) -> None:
        new = {each.path: each for each in failures if each.path not in self.seen}
        if not new:
            return
        begin = not self.path.is_file()
        with self.path.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:  # of file names
            writer = csv.writer(file, lineterminator="\n")
            if begin:
                writer.writerow(["path", "reason"])
            for path, failure in new.items():
                writer.writerow([path, failure.reason])
                then = consequence if failure.empty_class is None else "no other of its class can be read"
                log.warning("skipped %s: %s; %s.", path, failure.reason, then)
        self.seen |= {path: failure.reason for path, failure in new.items()}


class StopEarly(EarlyStopping):
    """Stops after so many validations in which val/loss did not fall, and says so.

    A loss that is no number is for NaNGuard, and no reason to end well.
    """

    def __init__(self, validations: int) -> None:
        super().__init__("val/loss", patience=validations, check_finite=False, check_on_train_epoch_end=False)
        self.stopped_epoch = -1  # for not yet; Lightning's 0 is an epoch, too

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of a run that is resumed; how patient to be is the config's, and an earlier stop is over."""
        super().load_state_dict(state_dict | {"patience": self.patience, "stopped_epoch": -1})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopped_epoch >= 0:
            log.info(
                "stopped early, after epoch %d: val/loss did not fall below %.4g in %d validations",
                self.stopped_epoch + 1,
                float(self.best_score),
                self.wait_count,
            )


class Throughput(Callback):
    """Logs clips per second of all processes, and the share of the time that training waited for the loader."""

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
        pl_module.log("clips_per_second", self._clips / seconds, batch_size=1, sync_dist=True, reduce_fx="sum")
        pl_module.log("loader_wait_share", self._waited / seconds, batch_size=1, sync_dist=True)
