"""Training hyperparameters, parameter groups, and the optimiser."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from farfield.errors import FarfieldError
from farfield.training.norm_layers import NORMS

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class Optimisation:
    """Training hyperparameters.

    Args:
        lr: peak learning rate; if `lr_batch_size` is given, the rate for that number of clips per optimiser step.
        lr_batch_size: number of clips per optimiser step for which `lr` was chosen. `lr` is then scaled in proportion
            to the number of clips per step in this run, over all processes and accumulated batches (Goyal et al.,
            "Accurate, Large Minibatch SGD", 2017). With None, `lr` is not scaled.
        optimizer: "sgd", or "adamw" (Loshchilov and Hutter, ICLR 2019) with PyTorch's betas.
        momentum: momentum of SGD.
        nesterov: use Nesterov momentum.
        weight_decay: weight decay of all parameters except biases and the parameters of norms.
        label_smoothing: share of the target that is spread evenly over all classes (Szegedy et al., CVPR 2016); in a
            `multi_head` network, over the classes of each head. In a multilabel network, how far targets move towards
            0.5, as a fraction: 0.1 turns 0 and 1 into 0.05 and 0.95.
        schedule: "cosine" lowers the learning rate to 0 along half a cosine (Loshchilov and Hutter, ICLR 2017);
            "steps" multiplies it by `step_factor` at each of `step_epochs`.
        schedule_length: what happens to the cosine when a resumed run is longer or shorter than planned before. "keep"
            ends the cosine at its original epoch; the rate stays at 0 afterwards. "extend" stretches the cosine over
            the new length, which changes the rate abruptly: with more epochs the rate rises, and the loss rises at
            first. None is like "keep", but refuses to resume a run whose cosine has already ended.
        warmup_epochs: number of epochs, not necessarily whole, in which the rate rises linearly from `warmup_factor`
            times `lr` to `lr`.
        warmup_factor: learning rate at the start of the warm-up, relative to `lr`.
        step_epochs: epochs at which the "steps" schedule lowers the rate.
        step_factor: factor by which the "steps" schedule multiplies the rate.
        region_loss_weight: weight of the auxiliary loss on the regions of inserted "object_context" blocks with one
            region per class (Yuan et al., ECCV 2020, section 3.3).
        freeze_through: last stage to freeze in fine-tuning: "stem", "res2", ... or "res5"; for transformers: "stem",
            "layer1", "layer2", ... All earlier stages are frozen too; blocks inserted into frozen stages are still
            trained. With None, no stage is frozen.
        freeze_batch_norm: keep the statistics, scales and shifts of batch norms unchanged, for fine-tuning on small
            batches. The batch norms of inserted blocks are still trained.
        layer_decay: learning rate of each layer relative to the next layer towards the head, for fine-tuning. The
            head's rate is `lr`. 1 gives all layers the same rate.
        ema_decay: decay of an exponential moving average (EMA) of the weights, updated after each step; validation and
            checkpoints use the average. With None, weights are not averaged.
        precise_bn_batches: number of training batches per process on which batch norms' statistics are re-estimated
            before each validation (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021). With 0, validation uses
            the moving averages from training.
        sub_batch_norm_splits: number of parts that a training batch is split into. Batch norms compute the statistics
            of each part separately, as if on several GPUs (PySlowFast's sub-batch norm). With 1, batches are not split.
            For statistics over all processes, see `trainer.sync_batchnorm`.
        early_stopping_epochs: stop training after this many validations in a row without a new best value of `monitor`,
            or, if `monitor` is not set, without a new lowest val/loss. With None, training never stops early.
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
                f"optimisation.weight_decay is {self.weight_decay} and optimisation.momentum is {self.momentum}; both "
                "must be at least 0, and optimisation.nesterov needs a momentum above 0."
            )
        if self.momentum >= 1:
            raise FarfieldError(f"optimisation.momentum is {self.momentum}; it must be below 1.")
        if self.warmup_epochs < 0 or not 0 <= self.warmup_factor <= 1:
            raise FarfieldError(
                f"optimisation.warmup_epochs is {self.warmup_epochs} and optimisation.warmup_factor is "
                f"{self.warmup_factor}; warmup_epochs must be at least 0, and warmup_factor from 0 to 1."
            )
        if self.step_factor <= 0 or any(epoch < 0 for epoch in self.step_epochs):
            raise FarfieldError(
                f"optimisation.step_epochs is {list(self.step_epochs)} and optimisation.step_factor is "
                f"{self.step_factor}; epochs must be at least 0, and step_factor positive."
            )
        if self.region_loss_weight < 0:
            raise FarfieldError(
                f"optimisation.region_loss_weight is {self.region_loss_weight}; it must be at least 0. A "
                "weight of 0 turns the region loss off."
            )
        if not 0 <= self.label_smoothing < 1:
            raise FarfieldError(f"optimisation.label_smoothing is {self.label_smoothing}; it must be in [0, 1).")
        if not 0 < self.layer_decay <= 1:
            raise FarfieldError(f"optimisation.layer_decay is {self.layer_decay}; it must be above 0 and at most 1.")
        if self.optimizer == "adamw" and self.nesterov:
            raise FarfieldError("optimisation.nesterov has no effect with adamw. Set nesterov: false.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise FarfieldError(
                f"optimisation.ema_decay is {self.ema_decay}; it must be between 0 and 1, for example 0.999."
            )
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
                "optimisation.freeze_batch_norm keeps the norms' statistics, but precise_bn_batches and "
                "sub_batch_norm_splits change them. Remove freeze_batch_norm, or the other two options."
            )
        if self.schedule == "steps" and not self.step_epochs:
            raise FarfieldError(
                "optimisation.schedule is 'steps', but step_epochs is empty. Set step_epochs, for example to [40, 80]."
            )
        if self.schedule == "cosine" and self.step_epochs:
            raise FarfieldError(
                "optimisation.step_epochs has no effect with the cosine schedule. Set schedule: steps, or remove "
                "step_epochs."
            )


def parameter_groups(
    module: nn.Module, settings: Optimisation, scales: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning rate and weight decay; biases and norms have no weight decay.

    Args:
        module: module to train.
        settings: learning rate and weight decay.
        scales: learning rate of each parameter, by name, relative to `settings.lr`; with None, all parameters have the
            rate `settings.lr`.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for prefix, child in module.named_modules():
        is_norm = isinstance(child, NORMS)
        for name, parameter in child.named_parameters(recurse=False):
            if parameter.requires_grad:
                scale = scales[f"{prefix}.{name}" if prefix else name] if scales else 1.0
                groups.setdefault((scale, not is_norm and name != "bias"), []).append(parameter)
    return [
        {"params": groups[key], "lr": settings.lr * key[0], "weight_decay": settings.weight_decay * key[1]}
        for key in sorted(groups, reverse=True)  # highest rate first: the first group's is logged
    ]


def make_optimizer(
    module: nn.Module, settings: Optimisation, scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """Create SGD or AdamW over `parameter_groups`.

    Raises:
        FarfieldError: if no parameter is trainable.
    """
    groups = parameter_groups(module, settings, scales)
    if not groups:
        raise FarfieldError(
            "all parameters of the module are frozen. Set requires_grad = True for those that should be trained."
        )
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
