"""Exponential moving average (EMA) of the weights, used for validation and saved in checkpoints."""

from __future__ import annotations

import warnings

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy

from farfield.errors import FarfieldError
from farfield.layers import SubBatchNorm3d


class ExponentialMovingAverage(EMAWeightAveraging):
    """Lightning's EMA callback, changed so that the whole validation and its reports use the averaged weights.

    In a checkpoint, `state_dict` holds the averaged weights, and `current_model_state` holds the weights that the
    optimiser updates.

    Args:
        decay: weight of the old average in each update. The norms' statistics are averaged like the weights.
    """

    state_key = "AveragedWeights"
    """Key of the callback's state in checkpoints; do not change it, or resuming older runs loses the state."""

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise FarfieldError(
                "optimisation.ema_decay needs a second, unsharded copy of the network, but trainer.strategy shards the "
                "network. Remove ema_decay, or use --trainer.strategy ddp."
            )
        pl_module.to(trainer.strategy.root_device)  # the average is created on the network's device, still the CPU here
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback")
            super().setup(trainer, pl_module, stage)

    # Lightning swaps the weights at the start and end of the validation epoch; callbacks that report on the validation
    # run after its end, so the swap is moved outwards.
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)
        for module in pl_module.modules():
            if isinstance(module, SubBatchNorm3d):
                module.aggregate()  # done when the network goes to evaluation, which was before the swap

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
