"""The scaled learning rate, and the schedule of a run that is resumed with another length; rates computed by hand."""

from __future__ import annotations

import logging
import math

import pytest

from farfield.errors import FarfieldError
from farfield.training.optimisation import Optimisation
from farfield.training.schedule import PreviousSchedule, previous_schedule, resumed_total_steps, scale_lr


def total(previous: PreviousSchedule, settings: Optimisation, *, per_epoch: float = 10, now: int = 200) -> int:
    return resumed_total_steps(previous, settings, steps_per_epoch=per_epoch, total_steps=now)


LR = Optimisation(lr=0.4)
EXTEND = Optimisation(lr=0.4, schedule_length="extend")
KEEP = Optimisation(lr=0.4, schedule_length="keep")


def test_rate_is_scaled_to_the_clips_per_step_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    settings = Optimisation(lr=0.01, lr_batch_size=16)
    with caplog.at_level(logging.INFO, "farfield"):
        assert scale_lr(settings, 16) is settings
        assert scale_lr(settings, 4) == Optimisation(lr=0.0025, lr_batch_size=16)
    assert [record.getMessage() for record in caplog.records] == [
        "the learning rate is 0.0025: lr is 0.01 for 16 clips per step; this run has 4, so lr is multiplied by 4 / 16"
    ]


def test_end_is_kept_or_extended_and_rates_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    half = PreviousSchedule(50, 100, 10)  # 5 of 10 epochs: half of the peak
    with caplog.at_level(logging.WARNING, "farfield"):
        assert total(half, LR) == total(half, KEEP) == 100
        assert total(half, EXTEND) == 200
    kept, _, extended = (record.getMessage() for record in caplog.records)
    longer = 0.4 * (1 + math.cos(math.pi / 4)) / 2
    assert "at step 50, where the run continues, the learning rate is 0.2; if" in kept
    assert f"schedule_length were 'extend', it would be {longer:.4g}." in kept
    assert "was to end after epoch 10, and now ends after epoch 20" in kept
    assert f"the learning rate changes from 0.2 to {longer:.4g}." in extended


def test_ended_schedule_needs_a_choice() -> None:
    ended = PreviousSchedule(100, 100, 10)
    with pytest.raises(FarfieldError, match=r"at step 100 the rate rises from 0 to 0\.2, and the loss rises at first"):
        total(ended, LR)
    assert total(ended, KEEP) == 100
    assert total(ended, EXTEND) == 200


@pytest.mark.parametrize(
    ("previous", "per_epoch", "now", "expected"),
    [
        (PreviousSchedule(50, 100, 10), 10, 100, 100),  # the same end
        (PreviousSchedule(50, 100, 10), 10, 60, 100),  # an earlier end: the rate does not fall faster
        (PreviousSchedule(50, 100, 10), 20, 200, 200),  # as many epochs, of smaller batches
        (PreviousSchedule(50, 100, 10), 20, 400, 200),  # and twice as many
        (PreviousSchedule(50, None, None), 10, 200, 200),  # not known
    ],
)
def test_changed_batch_size_keeps_the_epochs(
    previous: PreviousSchedule, per_epoch: float, now: int, expected: int
) -> None:
    assert total(previous, LR, per_epoch=per_epoch, now=now) == expected


def test_steps_schedule_does_not_depend_on_the_end(caplog: pytest.LogCaptureFixture) -> None:
    steps = Optimisation(schedule="steps", step_epochs=(5,))
    assert total(PreviousSchedule(100, 100, 10), steps) == 200
    assert not caplog.records


@pytest.mark.parametrize("step", [1, 30, 99, 100])
def test_end_is_inferred_from_the_rate_of_an_older_checkpoint(step: int) -> None:
    rate = 0.4 * (1 + math.cos(math.pi * step / 100)) / 2
    content = {
        "global_step": step,
        "farfield": {"optimisation": {"schedule": "cosine", "warmup_epochs": 0.0}},
        "lr_schedulers": [{"_last_lr": [rate, rate / 2], "base_lrs": [0.4, 0.2]}],
    }
    assert previous_schedule(content) == PreviousSchedule(step, 100, None)
    content["farfield"]["optimisation"]["warmup_epochs"] = 1.0
    assert previous_schedule(content).total_steps is None
    content["farfield"]["schedule"] = {"total_steps": 70, "steps_per_epoch": 7}
    assert previous_schedule(content) == PreviousSchedule(step, 70, 7)
