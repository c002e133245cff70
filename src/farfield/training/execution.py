"""Compile a network to save time, or recompute activations to save memory. Results differ by rounding only."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from farfield.errors import FarfieldError
from farfield.layers import recompute_activations
from farfield.models.network import ActionNet
from farfield.training.activation_checkpointing import checkpoint_activations


@dataclass(frozen=True)
class Execution:
    """Settings for compiling the network, and for recomputing activations in the backward pass.

    Args:
        compile: compile the network with torch.compile. The first step takes minutes; later steps are faster.
        recompute_stages: stages with activation checkpointing, for example [res2, res3]. Their residual blocks store
            only their inputs and are recomputed in the backward pass, which saves memory and costs time. For
            transformers, [layers] means all layers, and [layer1, layer2] two of them.
        recompute_norms: recompute the outputs of batch norms and activation functions in the backward pass instead of
            storing them. This saves about a quarter of the memory of a step, see
            `farfield.layers.recompute_activations`. With `compile`, this setting has no effect: torch.compile chooses
            by itself what to recompute.
        recompute_sums: number of consecutive residual blocks whose outputs (sums of shortcut and branch) are recomputed
            for each block whose output is stored. With 2, the output of every third block is stored. Larger numbers
            save more memory; 0 stores the output of every block. A number above 0 needs `recompute_norms`, and has no
            effect with `compile`.

    Raises:
        FarfieldError: if recompute_sums is negative, or set without recompute_norms.
    """

    compile: bool = False
    recompute_stages: tuple[str, ...] = ()
    recompute_norms: bool = True
    recompute_sums: int = 0

    def __post_init__(self) -> None:
        if self.recompute_sums < 0 or (self.recompute_sums and not self.recompute_norms):
            raise FarfieldError(
                f"execution.recompute_sums is {self.recompute_sums} and execution.recompute_norms is "
                f"{str(self.recompute_norms).lower()}; recompute_sums must be at least 0, and a value above 0 needs "
                "recompute_norms: true. Change one of them."
            )

    def forward_context(self) -> AbstractContextManager[None]:
        """Return a context that applies `recompute_norms` and `recompute_sums` to a training step's forward pass."""
        if self.compile or not self.recompute_norms:
            return nullcontext()
        return recompute_activations(sums_per_kept=self.recompute_sums)


def apply_execution(network: ActionNet, execution: Execution, *, has_region_loss: bool) -> None:
    """Compile a network, or turn on activation checkpointing, in place, as `execution` requests.

    Args:
        network: network to change.
        execution: what to turn on. Its `recompute_norms` and `recompute_sums` are not applied here, but by
            `Execution.forward_context`.
        has_region_loss: whether the training loss includes the region loss of "object_context" blocks, which a compiled
            network does not support.

    Raises:
        FarfieldError: if the network lacks one of `execution.recompute_stages`; or if `execution.compile` is combined
            with `execution.recompute_stages` or with the region loss.
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
                "optimisation.region_loss_weight to 0, or execution.compile to false."
            )
        network.compile()


def run_eagerly() -> AbstractContextManager[Any]:
    """Run compiled networks uncompiled within a `with` block, so that hooks on their layers are called."""
    return torch.compiler.set_stance("force_eager")
