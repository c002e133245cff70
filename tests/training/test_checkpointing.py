"""The callbacks' state in checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farfield.training.checkpointing import best_metric, checkpoint_callbacks
from farfield.training.early_stopping import StopEarly
from farfield.training.exponential_moving_average import ExponentialMovingAverage
from farfield.training.monitor import Monitor


def test_state_keys_are_those_of_older_runs(tmp_path: Path) -> None:
    """A key that changes loses the callback's state when a run written before the change is resumed."""
    callbacks = [
        StopEarly(5),
        ExponentialMovingAverage(0.7),
        *checkpoint_callbacks(tmp_path, every_n_steps=3, has_validation=True),
    ]
    assert [callback.state_key for callback in callbacks] == [
        "StopEarly{'monitor': 'val/loss', 'mode': 'min'}",
        "AveragedWeights",
        "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
        "'train_time_interval': None}",
        "_MidEpochCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 3, 'every_n_epochs': 0, "
        "'train_time_interval': None}",
        "_BestCheckpoint{'monitor': 'val/top1', 'mode': 'max', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
        "'train_time_interval': None}",
    ]


def test_best_metric_is_read_from_the_state_of_the_best_checkpoint(tmp_path: Path) -> None:
    last, best = checkpoint_callbacks(tmp_path, every_n_steps=None, has_validation=True)
    best.best_model_score = torch.tensor(0.625)  # type: ignore[attr-defined]
    states = {each.state_key: each.state_dict() for each in (last, best)}
    assert best_metric({"callbacks": states}) == ("val/top1", 0.625)
    del states[best.state_key]
    assert best_metric({"callbacks": states}) is None


@pytest.mark.parametrize(("monitor", "mode"), [("val/mean_class_accuracy", "max"), ("val/loss", "min")])
def test_best_checkpoint_follows_the_monitored_metric(monitor: Monitor, mode: str, tmp_path: Path) -> None:
    best = checkpoint_callbacks(tmp_path, every_n_steps=None, has_validation=True, monitor=monitor)[-1]
    assert (best.monitor, best.mode) == (monitor, mode)  # type: ignore[attr-defined]
    best.best_model_score = torch.tensor(0.5)  # type: ignore[attr-defined]
    assert best_metric({"callbacks": {best.state_key: best.state_dict()}}) == (monitor, 0.5)
