"""Early stopping on a validation metric, and its state in a resumed run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import RunningStage, TrainerFn, TrainerState

from farfield.training.early_stopping import StopEarly


def fake_trainer() -> Any:
    return SimpleNamespace(
        state=TrainerState(fn=TrainerFn.FITTING, stage=RunningStage.TRAINING),
        sanity_checking=False,
        fast_dev_run=False,
        should_stop=False,
        current_epoch=0,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, **_: decision),
    )


def test_early_stop_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "farfield")
    trainer = fake_trainer()
    callback, module = StopEarly(2), LightningModule()
    for loss in (0.5, 0.75, 0.625):  # three validations in one epoch
        trainer.callback_metrics = {"val/loss": torch.tensor(loss)}
        callback.on_validation_end(trainer, module)
    assert trainer.should_stop
    callback.on_train_end(trainer, module)
    told = "stopped early, after epoch 1: val/loss did not fall below 0.5 (validations without improvement: 2)"
    assert [record.message for record in caplog.records] == [told]
    resumed = StopEarly(3)
    resumed.load_state_dict(callback.state_dict())
    assert resumed.best_score == 0.5
    resumed.on_train_end(trainer, module)
    assert len(caplog.records) == 1


def test_accuracy_must_rise(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "farfield")
    trainer, callback, module = fake_trainer(), StopEarly(2, "val/mean_class_accuracy"), LightningModule()
    for accuracy, loss in ((0.25, 0.9), (0.5, 0.8), (0.5, 0.7), (0.375, 0.6)):
        assert not trainer.should_stop
        trainer.callback_metrics = {
            "val/mean_class_accuracy": torch.tensor(accuracy),
            "val/loss": torch.tensor(loss),
        }
        callback.on_validation_end(trainer, module)
    assert trainer.should_stop
    callback.on_train_end(trainer, module)
    told = (
        "stopped early, after epoch 1: val/mean_class_accuracy did not rise above 0.5 "
        "(validations without improvement: 2)"
    )
    assert [record.message for record in caplog.records] == [told]
