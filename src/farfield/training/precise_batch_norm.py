"""Precise batch norm: re-estimate batch norms' running statistics on training clips before each validation."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from farfield.errors import FarfieldError
from farfield.layers import recalibrate
from farfield.lightning_compat import data_module
from farfield.training.execution import run_eagerly
from farfield.training.norm_layers import BATCH_NORMS

log = logging.getLogger("farfield")


class PreciseBatchNorm(Callback):
    """Re-estimate batch norms' running statistics before each validation, with the current weights.

    Each process uses its own training batches. The statistics are then combined over all processes.

    Args:
        num_batches: number of training batches per process.
    """

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches
        self._has_warned = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _norms(pl_module):
            raise FarfieldError(
                "optimisation.precise_bn_batches needs batch norms with running statistics, but this network has "
                "none. Set precise_bn_batches to 0."
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        with run_eagerly():
            recalibrate(pl_module, self._batches(trainer, pl_module))
        if trainer.world_size > 1:
            for norm in _norms(pl_module):
                average_over_processes(norm)

    def _batches(self, trainer: Trainer, pl_module: LightningModule) -> Iterator[Any]:
        data, used = data_module(trainer), 0
        for batch in itertools.islice(data.train_dataloader(), self.num_batches):
            used += 1
            moved = data.transfer_batch_to_device(batch, pl_module.device, 0)
            with trainer.precision_plugin.forward_context():
                yield data.on_after_batch_transfer(moved, 0).clips
        if used < self.num_batches and trainer.is_global_zero and not self._has_warned:
            self._has_warned = True
            log.warning(
                "optimisation.precise_bn_batches is %d, but only %d batches were left in the epoch. Set it to the "
                "number of batches in an epoch, or fewer, and validate at the end of epochs.",
                self.num_batches, used,
            )  # fmt: skip


def _norms(module: nn.Module) -> list[Any]:
    return [norm for norm in module.modules() if isinstance(norm, BATCH_NORMS) and norm.running_mean is not None]


def average_over_processes(norm: Any) -> None:
    """Combine a batch norm's running mean and variance over all processes, in place.

    Each process must have computed its statistics from the same number of values.
    """
    count = torch.distributed.get_world_size()
    moments = torch.stack([norm.running_mean, norm.running_var + norm.running_mean**2]).double()
    torch.distributed.all_reduce(moments)
    mean, square = moments / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(square - mean**2)
