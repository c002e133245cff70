"""How a network is trained: the settings, the optimiser over its groups of parameters, the learning rate's schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from farfield.errors import FarfieldError
from farfield.layers import SubBatchNorm3d

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained.

    Args:
        lr: peak learning rate, for the batch size in use, or for `lr_batch_size` where that is given.
        lr_batch_size: clips in an optimiser's step for which `lr` was chosen: the rate in use is `lr` times those of
            this run (all processes, accumulated batches) over it (Goyal et al., "Accurate, Large Minibatch SGD", 2017).
        optimizer: "sgd", or "adamw" (Loshchilov and Hutter, ICLR 2019) with PyTorch's betas.
        momentum: of SGD.
        nesterov: Nesterov's momentum.
        weight_decay: on all weights but those of norms and the biases.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al., CVPR 2016).
        schedule: "cosine" falls to 0 along half a cosine (Loshchilov and Hutter, ICLR 2017); "steps" multiplies by
            `step_factor` at each of `step_epochs`.
        schedule_length: for a cosine of a run that is resumed with another end, as with more epochs. "keep" lets it
            end where it was to end, and the rate stays at 0 after; "extend" stretches it over the new length, which
            changes the rate at once: more epochs raise it, and what was learned at the lower one is lost at first.
            None keeps it, since that cannot spoil what was learned, and refuses a run whose schedule has ended.
        warmup_epochs: epochs, or a fraction of one, in which the rate rises linearly from `warmup_factor` times `lr`.
        warmup_factor: where the warm-up begins, relative to `lr`.
        step_epochs: for "steps".
        step_factor: for "steps".
        region_loss_weight: of the auxiliary loss on the regions of inserted "object_context" blocks, where there is
            one region a class (Yuan et al., ECCV 2020, section 3.3).
        freeze_through: fine-tuning: what does not learn, up to the end of "stem", "res2", ... "res5"; blocks inserted
            there do. None trains everything.
        freeze_batch_norm: fine-tuning on small batches: norms keep their statistics, scales and shifts, but for those
            of inserted blocks, which begin at zero.
        layer_decay: fine-tuning: each layer below the head learns at so many times the rate of the one above.
        ema_decay: keep an exponential moving average of the weights, `ema_decay` times itself plus the rest of the new
            ones after each step; it is what is evaluated and saved. None for none.
        precise_bn_batches: before each validation, measure the norms' statistics anew on so many training batches of
            each process (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021); 0 keeps the moving averages.
        sub_batch_norm_splits: norms take their statistics in training over so many parts of a batch, each on its own,
            as on several GPUs (PySlowFast's sub-batch norm); 1 for the whole batch. For statistics over all processes:
            trainer.sync_batchnorm.
        early_stopping_epochs: stop after so many validations in which val/loss did not fall. None never stops.
    """

    lr: float = 0.01
    lr_batch_size: int | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    schedule: Literal["cosine", "steps"] = "cosine"
    schedule_length: Literal["keep", "extend"] | None = None
    warmup_epochs: float = 0.0
    warmup_factor: float = 0.1
    step_epochs: tuple[float, ...] = ()
    step_factor: float = 0.1
    region_loss_weight: float = 0.4
    freeze_through: str | None = None
    freeze_batch_norm: bool = False
    layer_decay: float = 1.0
    ema_decay: float | None = None
    precise_bn_batches: int = 0
    sub_batch_norm_splits: int = 1
    early_stopping_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise FarfieldError(f"optimisation.lr is {self.lr}; it must be positive.")
        if self.weight_decay < 0 or self.momentum < 0 or (self.nesterov and self.momentum == 0):
            raise FarfieldError(
                f"optimisation has weight_decay {self.weight_decay} and momentum {self.momentum}; both must be "
                "at least 0, and momentum above 0 for nesterov."
            )
        if self.region_loss_weight < 0:
            raise FarfieldError(
                f"optimisation.region_loss_weight is {self.region_loss_weight}; it must be at least 0, which "
                "leaves this loss out."
            )
        if not 0 <= self.label_smoothing < 1:
            raise FarfieldError(f"optimisation.label_smoothing is {self.label_smoothing}; it must be in [0, 1).")
        if not 0 < self.layer_decay <= 1:
            raise FarfieldError(f"optimisation.layer_decay is {self.layer_decay}; it must be above 0 and at most 1.")
        if self.optimizer == "adamw" and self.nesterov:
            raise FarfieldError("optimisation.nesterov has no effect with adamw. Leave it out.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise FarfieldError(f"optimisation.ema_decay is {self.ema_decay}; it must lie between 0 and 1, as 0.999.")
        for name, least in (
            ("lr_batch_size", 1),
            ("precise_bn_batches", 0),
            ("sub_batch_norm_splits", 1),
            ("early_stopping_epochs", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise FarfieldError(f"optimisation.{name} is {value}; it must be at least {least}.")
        if self.freeze_batch_norm and (self.precise_bn_batches or self.sub_batch_norm_splits > 1):
            raise FarfieldError(
                "optimisation.freeze_batch_norm keeps the norms' statistics; precise_bn_batches and "
                "sub_batch_norm_splits change them. Leave one out."
            )
        if self.schedule == "steps" and not self.step_epochs:
            raise FarfieldError("optimisation.schedule is 'steps' without step_epochs. Give them, as [40, 80].")
        if self.schedule == "cosine" and self.step_epochs:
            raise FarfieldError("optimisation.step_epochs has no effect with the cosine schedule. Set schedule: steps.")


def parameter_groups(
    module: nn.Module, settings: Optimisation, scales: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups of the parameters that learn: weights decay, biases and the parameters of norms do not.

    Args:
        module: what learns.
        settings: learning rate and weight decay.
        scales: parameter to its share of the learning rate; None for 1 throughout.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for prefix, child in module.named_modules():
        is_norm = isinstance(child, _NormBase | SubBatchNorm3d | nn.GroupNorm | nn.LayerNorm)
        for name, parameter in child.named_parameters(recurse=False):
            if parameter.requires_grad:
                scale = scales[f"{prefix}.{name}" if prefix else name] if scales else 1.0
                groups.setdefault((scale, not is_norm and name != "bias"), []).append(parameter)
    return [
        {"params": groups[key], "lr": settings.lr * key[0], "weight_decay": settings.weight_decay * key[1]}
        for key in sorted(groups, reverse=True)  # the fastest first, whose rate is the one that is logged
    ]


def make_optimizer(
    module: nn.Module, settings: Optimisation, scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """SGD or AdamW over `parameter_groups`.

    Raises:
        FarfieldError: where nothing is left to learn.
    """
    groups = parameter_groups(module, settings, scales)
    if not groups:
        raise FarfieldError("no parameter of the network learns. Freeze less.")
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
