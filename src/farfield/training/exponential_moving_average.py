"""An exponential moving average of the weights, which is what is evaluated and saved."""

from __future__ import annotations

import warnings

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy

from farfield.errors import FarfieldError


class ExponentialMovingAverage(EMAWeightAveraging):
    """Lightning's, but with the averages in place for all of a validation, so that what is drawn of it is theirs, too.

    A checkpoint's weights are the averages; those that go on learning are beside them.

    Args:
        decay: how much of the average a step keeps; norms' statistics are averaged alike.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device  # the network is still on the CPU, and the average would stay there
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise FarfieldError(
                "optimisation.ema_decay keeps a second network that is whole, and trainer.strategy shards the first. "
                "Leave it out, or take --trainer.strategy ddp."
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback")
            super().setup(trainer, pl_module, stage)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
