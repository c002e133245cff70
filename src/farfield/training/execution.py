"""Compilation and activation checkpointing: settings that change speed and memory, but not results."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.training.activation_checkpointing import checkpoint_activations


@dataclass(frozen=True)
class Execution:
    """Compilation and activation checkpointing of the network in training.

    Args:
        compile: compile the network with torch.compile. The first step takes minutes; later steps are faster.
        recompute_stages: stages with activation checkpointing, for example [res2, res3]. Their residual blocks store
            only their inputs and are recomputed in the backward pass, which saves memory and costs time.
    """

    compile: bool = False
    recompute_stages: tuple[str, ...] = ()


def apply_execution(network: ActionNet, execution: Execution, *, has_region_loss: bool) -> None:
    """Apply the settings to a network, in place.

    Raises:
        FarfieldError: if the network lacks one of the stages, or the settings are incompatible.
    """
    checkpoint_activations(network, execution.recompute_stages)
    if execution.compile and execution.recompute_stages:
        raise FarfieldError(
            "execution.compile and execution.recompute_stages cannot be combined. Remove one; a compiled network saves "
            "memory too."
        )
    if execution.compile:
        if has_region_loss:
            raise FarfieldError(
                "execution.compile skips the hooks that the region loss of object_context blocks needs. Set "
                "optimisation.region_loss_weight: 0, or compile: false."
            )
        network.compile()


def run_eagerly() -> AbstractContextManager[Any]:
    """Run compiled networks uncompiled within a `with` block, so that hooks on their layers are called."""
    return torch.compiler.set_stance("force_eager")
