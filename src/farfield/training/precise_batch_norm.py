"""Precise batch norm: before each validation, the norms' statistics are measured anew on training clips."""

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
from farfield.training.execution import uncompiled

log = logging.getLogger("farfield")


class PreciseBatchNorm(Callback):
    """Measures the norms' running statistics on the training batches that come next, with the weights of now.

    Each process measures on its own clips, and all take the statistics of all.

    Args:
        num_batches: of each process.
    """

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _norms(pl_module):
            raise FarfieldError(
                "optimisation.precise_bn_batches measures running statistics, and this network has no norm that keeps "
                "any. Set it to 0."
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        with uncompiled(pl_module.network):  # type: ignore[arg-type]
            recalibrate(pl_module, self._batches(trainer, pl_module))
        if trainer.world_size > 1:
            for norm in _norms(pl_module):
                average_over_processes(norm)

    def _batches(self, trainer: Trainer, pl_module: LightningModule) -> Iterator[Any]:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        for batch in itertools.islice(data.train_dataloader(), self.num_batches):
            moved = data.transfer_batch_to_device(batch, pl_module.device, 0)
            with trainer.precision_plugin.forward_context():
                yield data.on_after_batch_transfer(moved, 0).clips


def _norms(module: nn.Module) -> list[Any]:
    return [
        norm
        for norm in module.modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None
    ]


def average_over_processes(norm: Any) -> None:
    """The mean, and the variance of all processes' values together, where each has as many; in place."""
    count = torch.distributed.get_world_size()
    moments = torch.stack([norm.running_mean, norm.running_var + norm.running_mean**2]).double()
    torch.distributed.all_reduce(moments)
    mean, square = moments / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(square - mean**2)
