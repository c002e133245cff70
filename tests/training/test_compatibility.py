"""Trainer options out of range, which Lightning does not check."""

from __future__ import annotations

import re

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from farfield.errors import FarfieldError
from farfield.training.compatibility import check_trainer


def check(*words: str) -> None:
    parser = LightningArgumentParser()
    parser.add_class_arguments(Trainer, "trainer", instantiate=False)
    check_trainer(parser.parse_args(list(words)).trainer)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("accumulate_grad_batches=0", "trainer.accumulate_grad_batches is 0; it must be at least 1."),
        ("check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch is 0; it must be at least 1."),
        ("log_every_n_steps=-1", "trainer.log_every_n_steps is -1; it must be at least 0."),
        ("gradient_clip_val=-0.5", "trainer.gradient_clip_val is -0.5; it must be at least 0."),
        (
            "val_check_interval=0",
            "trainer.val_check_interval is 0; it must be above 0: a fraction of an epoch, or a number of batches.",
        ),
        ("devices=2.5", "trainer.devices is 2.5; it must be auto, a number of devices, or indices"),
        ("devices=two", "trainer.devices is two;"),
    ],
)
def test_out_of_range(option: str, message: str) -> None:
    with pytest.raises(FarfieldError, match=re.escape(message)):
        check(f"--trainer.{option}")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("devices=2", "accumulate_grad_batches=1", "log_every_n_steps=0", "gradient_clip_val=0"),
        ("devices=0,2", "val_check_interval=0.25"),
        ("devices=[1]", "val_check_interval=3", "check_val_every_n_epoch=null"),
        ("devices=-1", "val_check_interval=00:01:00:00"),
    ],
)
def test_in_range(options: tuple[str, ...]) -> None:
    check(*[f"--trainer.{option}" for option in options])
