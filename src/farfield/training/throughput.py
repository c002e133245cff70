"""Training throughput: clips per second, and the time spent waiting for data."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Log the clips per second, summed over processes, and the share of time spent waiting for the data loader."""

    def __init__(self) -> None:
        self._start = self._waiting_since = time.perf_counter()
        self._waited = 0.0
        self._clips = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart()  # a run resumed in the middle of an epoch gets no on_train_epoch_start

    def _restart(self) -> None:
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
