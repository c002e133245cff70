"""How a network is run in training: what changes its speed and memory, and nothing of what it learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.training.activation_checkpointing import recompute_stages


@dataclass(frozen=True)
class Execution:
    """How a network is run.

    Args:
        compile: run it through torch.compile, which takes minutes for the first step and is faster then.
        recompute_stages: stages whose residual blocks keep only their inputs and run again on the way back, as
            [res2, res3]: less memory for more time (activation checkpointing).
    """

    compile: bool = False
    recompute_stages: tuple[str, ...] = ()


def make_ready(network: ActionNet, execution: Execution, *, has_region_loss: bool) -> None:
    """Applies the settings, in place.

    Raises:
        FarfieldError: for a stage that the network does not have, or settings that do not go together.
    """
    recompute_stages(network, execution.recompute_stages)
    if execution.compile and execution.recompute_stages:
        raise FarfieldError(
            "execution.compile cannot take recompute_stages along. Leave one out: a compiled network saves memory too."
        )
    if execution.compile:
        if has_region_loss:
            raise FarfieldError(
                "execution.compile leaves out the hooks by which the regions of object_context are supervised. Set "
                "optimisation.region_loss_weight: 0, or compile: false."
            )
        network.compile()


@contextmanager
def uncompiled(network: ActionNet) -> Iterator[None]:
    """Within, a compiled network runs as it was written, so that hooks on its layers are called."""
    compiled, network._compiled_call_impl = network._compiled_call_impl, None
    try:
        yield
    finally:
        network._compiled_call_impl = compiled
