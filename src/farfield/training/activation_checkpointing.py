"""Activation checkpointing: residual blocks or layers store only their input, and the backward pass repeats them.

This saves memory and costs time (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). The recomputation
repeats the forward pass exactly, including dropout. Running statistics of norms are not updated in the recomputation,
since each step should update them once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from farfield.errors import FarfieldError, nearest
from farfield.models.backbones.backbone import Backbone
from farfield.models.network import ActionNet
from farfield.training.norm_layers import BATCH_NORMS

ALL_LAYERS = "layers"
"""Name for all layers of a transformer in `execution.recompute_stages`."""


def checkpoint_activations(network: ActionNet, stages: Sequence[str]) -> None:
    """Turn on activation checkpointing for the residual blocks or layers of the given stages, in place.

    A block that the network's settings insert after a residual block, such as a non-local block, is checkpointed
    together with it. Parameter names and results do not change.

    Args:
        network: network to change.
        stages: names of residual stages, such as "res2"; for a transformer, names of layers, such as "layer1", or
            "layers" for all of them. A name may come more than once.

    Raises:
        FarfieldError: if the network lacks one of the stages.
    """
    for stage in stages:
        for block in _blocks(network.backbone, stage):
            if not isinstance(block, _Checkpointed):
                # A subclass instead of a wrapper module, which would change the names of the parameters.
                block.__class__ = type(f"Checkpointed{type(block).__name__}", (_Checkpointed, type(block)), {})


def _blocks(backbone: Backbone, stage: str) -> list[nn.Module]:
    """Return the residual blocks of a stage, the layer of this name, or all layers."""
    if stage in backbone.stage_specs:
        return backbone.blocks(stage)
    layers = dict(zip(backbone.layer_names, backbone.layers(), strict=True))
    if layers and stage == ALL_LAYERS:
        return list(layers.values())
    if stage in layers:
        return [layers[stage]]
    known = [ALL_LAYERS, *layers] if layers else list(backbone.stage_specs)
    hint = nearest(stage, known) if known else "This network has no stages: remove the option."
    raise FarfieldError(f"execution.recompute_stages has {stage!r}, which is not a stage of this network. {hint}")


class _Checkpointed(nn.Module):
    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*inputs, **options)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), keep_running_statistics(self)

        # The options are bound to the function, since `checkpoint` has keyword arguments of its own.
        return checkpoint(partial(super().forward, **options), *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def keep_running_statistics(module: nn.Module) -> Iterator[None]:
    """Keep batch norms from updating their running statistics within a `with` block.

    The norms still normalise by the statistics of the batch. Their momentum is 0 within the block.

    Setting `track_running_stats` to False would not work: PyTorch would then use a different batch-norm operation,
    which saves different tensors for the backward pass. Activation checkpointing requires the same operation in
    the forward pass and in the recomputation, but only the recomputation runs within the `with` block.
    """
    norms: list[Any] = [norm for norm in module.modules() if isinstance(norm, BATCH_NORMS) and norm.training]
    names = ("momentum", "running_mean", "running_var", "num_batches_tracked")
    before = [{name: getattr(norm, name) for name in names} for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        for name in names[1:]:  # on copies, since 0 * NaN is NaN
            value = getattr(norm, name)
            if value is not None:
                setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, values in zip(norms, before, strict=True):
            for name, value in values.items():
                setattr(norm, name, value)
