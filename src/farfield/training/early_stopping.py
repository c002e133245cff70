"""Early stopping on a validation metric."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from farfield.training.monitor import EARLY_STOPPING, Monitor, best_mode

log = logging.getLogger("farfield")


class StopEarly(EarlyStopping):
    """Stop training after `validations` consecutive validations without a new best value of `monitor`; log the stop.

    For a NaN or infinite loss, `NaNGuard` raises an error instead.
    """

    def __init__(self, validations: int, monitor: Monitor = EARLY_STOPPING) -> None:
        super().__init__(
            monitor,
            mode=best_mode(monitor),
            patience=validations,
            check_finite=False,
            check_on_train_epoch_end=False,
        )
        self.stopped_epoch = -1  # not stopped; Lightning's initial 0 is a valid epoch

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value and the number of validations since it was reached.

        The patience comes from the current config, not from `state_dict`. A run that stopped early before it was
        resumed may therefore continue.
        """
        super().load_state_dict(state_dict | {"patience": self.patience, "stopped_epoch": -1})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopped_epoch >= 0:
            log.info(
                "stopped early, after epoch %d: %s did not %s %.4g (validations without improvement: %d)",
                self.stopped_epoch + 1,
                self.monitor,
                "fall below" if self.mode == "min" else "rise above",
                float(self.best_score),
                self.wait_count,
            )
