"""Report videos that could not be read during training and validation."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from farfield.distributed import all_gather_list

log = logging.getLogger("farfield")


class SkippedVideos(Callback):
    """Log each unreadable video once and list it in skipped_videos.csv; log their number as metric `skipped_videos`.

    In distributed training, every process but the first writes its own file: skipped_videos.rank1.csv and so on.
    """

    FILE = "skipped_videos.csv"

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / self.FILE
        self.seen: dict[str, str] = {}
        self._empty_classes: set[str] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            self.path = self.path.with_name(f"skipped_videos.rank{trainer.global_rank}.csv")
        if self.path.is_file():  # the run is resumed
            with self.path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                self.seen = {row["path"]: row["reason"] for row in csv.DictReader(file)}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._record(batch.failures, "another video of the same class takes its place")
        for label in {each.empty_class for each in batch.failures} - {None} - self._empty_classes:
            self._empty_classes.add(label)
            log.warning(
                "the class %r is empty: none of its videos can be read, and videos of other classes take their place. "
                "Fix the manifest, or remove the class from it.",
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
        self._record(batch.failures, "the validation leaves it out")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        paths = list(self.seen) if trainer.world_size == 1 else all_gather_list(list(self.seen))
        pl_module.log("skipped_videos", float(len(set(paths))), batch_size=1, sync_dist=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seen:
            log.warning("videos that could not be read: %d; %s lists them.", len(self.seen), self.path)

    def _record(self, failures: Sequence[Any], consequence: str) -> None:
        new = {each.path: each for each in failures if each.path not in self.seen}
        if not new:
            return
        needs_header = not self.path.is_file()
        # surrogateescape: file names need not be UTF-8
        with self.path.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            if needs_header:
                writer.writerow(["path", "reason"])
            for path, failure in new.items():
                writer.writerow([path, failure.reason])
                then = consequence if failure.empty_class is None else "no other video of its class can be read"
                log.warning("skipped %s: %s; %s.", path, failure.reason, then)
        self.seen |= {path: failure.reason for path, failure in new.items()}
