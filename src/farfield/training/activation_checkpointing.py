"""Activation checkpointing: some residual blocks keep their input only, and run again on the way back.

Memory for time (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). The second run is the first once
more, dropout included, but does not count towards the norms' running statistics, which would otherwise move twice a
step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from farfield.errors import FarfieldError, nearest
from farfield.models.network import ActionNet


def recompute_stages(network: ActionNet, stages: Sequence[str]) -> None:
    """Makes the residual blocks of some stages, with what is inserted after them, run again on the way back; in place.

    Names of parameters, and what is computed, stay as they are.

    Raises:
        FarfieldError: for a stage that the network does not have.
    """
    for stage in stages:
        if stage not in network.backbone.stage_specs:
            known = network.backbone.stage_specs
            hint = nearest(stage, known) if known else "This network has no stages."
            raise FarfieldError(f"execution.recompute_stages names {stage!r}. {hint}")
        for block in network.backbone.blocks(stage):
            # A class of its own, and no wrapper: a wrapper would stand in the names of the parameters.
            block.__class__ = type(f"Recomputed{type(block).__name__}", (_Recomputed, type(block)), {})


class _Recomputed(nn.Module):
    def forward(self, *inputs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*inputs)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), norms_keep_statistics(self)

        return checkpoint(super().forward, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def norms_keep_statistics(module: nn.Module) -> Iterator[None]:
    """Within, norms normalise by the batch as ever, and their running statistics stay.

    By a momentum of 0, in PyTorch's convention: with `track_running_stats` off, another operation would run, which
    saves other tensors for the way back than the one that it stands for.
    """
    norms: list[Any] = [
        norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.training
    ]
    names = ("momentum", "running_mean", "running_var", "num_batches_tracked")
    before = [{name: getattr(norm, name) for name in names} for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        for name in names[1:]:  # copies: 0 times a NaN is one, too
            value = getattr(norm, name)
            if value is not None:
                setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, values in zip(norms, before, strict=True):
            for name, value in values.items():
                setattr(norm, name, value)
