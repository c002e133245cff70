"""SGD with warm-up and a cosine or step schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from farfield.errors import FarfieldError
from farfield.layers import SubBatchNorm3d


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained.

    Args:
        lr: peak learning rate, for the batch size in use.
        momentum: of SGD.
        nesterov: Nesterov's momentum.
        weight_decay: on all weights but those of norms and the biases.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al., CVPR 2016).
        schedule: "cosine" falls to 0 along half a cosine (Loshchilov and Hutter, ICLR 2017); "steps" multiplies by
            `step_factor` at each of `step_epochs`.
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
    """

    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    schedule: Literal["cosine", "steps"] = "cosine"
    warmup_epochs: float = 0.0
    warmup_factor: float = 0.1
    step_epochs: tuple[float, ...] = ()
    step_factor: float = 0.1
    region_loss_weight: float = 0.4
    freeze_through: str | None = None
    freeze_batch_norm: bool = False
    layer_decay: float = 1.0

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
        if self.schedule == "steps" and not self.step_epochs:
            raise FarfieldError("optimisation.schedule is 'steps' without step_epochs. Give them, as [40, 80].")
        if self.schedule == "cosine" and self.step_epochs:
            raise FarfieldError("optimisation.step_epochs has no effect with the cosine schedule. Set schedule: steps.")


def lr_factor(step: int, settings: Optimisation, *, steps_per_epoch: float, total_steps: int) -> float:
    """The learning rate at an optimiser step, relative to `settings.lr`. Steps count from 0."""
    epoch = step / steps_per_epoch
    if epoch < settings.warmup_epochs:
        rise = epoch / settings.warmup_epochs
        start = settings.warmup_factor
        return start + (1 - start) * rise
    if settings.schedule == "steps":
        return settings.step_factor ** sum(epoch >= at for at in settings.step_epochs)
    warmup_steps = settings.warmup_epochs * steps_per_epoch
    fraction = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))


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
    """SGD over `parameter_groups`.

    Raises:
        FarfieldError: where nothing is left to learn.
    """
    groups = parameter_groups(module, settings, scales)
    if not groups:
        raise FarfieldError("no parameter of the network learns. Freeze less.")
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
