"""Checks of a training config: values out of range, and settings that are incompatible."""

from __future__ import annotations

import re
from typing import Any

from farfield.data.samplers import SHORT_CYCLE, scaled_side
from farfield.errors import FarfieldError
from farfield.models.network import check_sides
from farfield.training.fsdp import FullySharded
from farfield.training.lightning_module import TrainingModule

MAX_SEED = 2**32 - 1
"""Largest seed that NumPy takes."""
LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
}
"""Smallest valid values of trainer options that Lightning does not check."""


def check_seed(seed: int | None) -> None:
    """Raise `FarfieldError` for a seed that NumPy does not accept."""
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise FarfieldError(f"seed_everything is {seed}; it must be from 0 to {MAX_SEED}.")


def check_compatible(config: Any, module: TrainingModule) -> None:
    """Check that settings are valid and compatible, before anything is written.

    Raises:
        FarfieldError: if a setting is out of range or not supported, or settings are incompatible.
    """
    check_trainer(config.trainer)
    optimisation, every = module.optimisation, config.checkpoint_every_n_steps
    if every is not None and every < 1:
        raise FarfieldError(f"checkpoint_every_n_steps is {every}; it must be at least 1, or null.")
    if str(config.trainer.strategy).startswith("fsdp") and config.trainer.strategy != FullySharded.NAME:
        raise FarfieldError(
            f"trainer.strategy is {config.trainer.strategy}, which selects PyTorch's FSDP1. FSDP1 hangs while a report "
            f"is made, and when processes validate different numbers of batches. Use {FullySharded.NAME}."
        )
    if config.trainer.logger is not None:
        raise FarfieldError(
            "trainer.logger has no effect: metrics are logged to metrics.csv and to Weights & Biases. Remove "
            "trainer.logger; to turn Weights & Biases off, use --wandb.mode disabled."
        )
    if config.trainer.overfit_batches:
        raise FarfieldError(
            "trainer.overfit_batches is not supported: farfield has its own samplers. Give a manifest of a few videos "
            "as data.train; `farfield data subset` makes one."
        )
    if config.data.batch_size % optimisation.sub_batch_norm_splits:
        raise FarfieldError(
            f"data.batch_size is {config.data.batch_size}, which is not a multiple of "
            f"optimisation.sub_batch_norm_splits ({optimisation.sub_batch_norm_splits}). Change one of them."
        )
    if config.data.short_cycle:
        sides = [scaled_side(module.network.clip.crop_px, scale) for _, scale in SHORT_CYCLE]
        check_sides(module.network, sides, "data.short_cycle")
    if config.data.unlabelled is not None and module.distiller is None:
        raise FarfieldError(
            "data.unlabelled is set, but training on videos without labels needs a teacher, which scores them. "
            "Set model.teacher or model.teacher_scores, or leave out data.unlabelled."
        )
    if config.data.class_balanced and module.loss.class_weights is not None:
        raise FarfieldError(
            "data.class_balanced and loss.class_weights are both set. Each of them gives small classes more influence; "
            "together, small classes would count too much. Remove one of them."
        )
    of_clips = [name for name in ("whole_videos", "untrimmed") if config.data[name]]
    if of_clips and module.loss.pos_weight == "balanced":
        raise FarfieldError(
            f"loss.pos_weight is 'balanced', which counts positive videos. With data.{of_clips[0]}, a clip of such a "
            "video is positive only if it overlaps a segment of the class. Give each class's ratio of negative to "
            "positive clips instead: {name: ratio}."
        )
    if config.data.val is None and config.monitor is not None:
        raise FarfieldError(
            f"monitor is {config.monitor}, which needs validation data, but data.val is not set. Set data.val, or "
            "remove monitor."
        )
    if config.data.val is None and (optimisation.precise_bn_batches or optimisation.early_stopping_epochs):
        raise FarfieldError(
            "optimisation.precise_bn_batches and optimisation.early_stopping_epochs need validation data, but data.val "
            "is not set. Set data.val, or set precise_bn_batches to 0 and early_stopping_epochs to null."
        )


def check_trainer(trainer: Any) -> None:
    """Raise `FarfieldError` if a trainer option that Lightning does not check is out of range."""
    for name, least in LEAST.items():
        given = trainer[name]
        if given is not None and given < least:
            raise FarfieldError(f"trainer.{name} is {given}; it must be at least {least}.")
    interval = trainer.val_check_interval
    if isinstance(interval, int | float) and interval <= 0:
        raise FarfieldError(
            f"trainer.val_check_interval is {interval}; it must be above 0: a fraction of an epoch, or a number of "
            "batches."
        )
    devices = trainer.devices
    if isinstance(devices, str) and not re.fullmatch(r"auto|-1|\d+(\s*,\s*\d+)*\s*,?", devices.strip()):
        raise FarfieldError(
            f"trainer.devices is {devices}; it must be auto, a number of devices, or indices of devices, for example "
            "0,2."
        )
