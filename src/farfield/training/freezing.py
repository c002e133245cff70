"""Freezing of stages and batch norms for fine-tuning."""

from __future__ import annotations

import logging

from torch import nn

from farfield.errors import FarfieldError, nearest
from farfield.layers import freeze_batch_norm
from farfield.models.network import ActionNet
from farfield.training.norm_layers import BATCH_NORMS
from farfield.training.optimisation import Optimisation

log = logging.getLogger("farfield")


def freeze_parts(network: ActionNet, settings: Optimisation) -> None:
    """Freeze stages and batch norms as set by `freeze_through` and `freeze_batch_norm`, in place.

    A frozen stage keeps its weights and its batch norms' statistics. Blocks inserted into a frozen stage are still
    trained, since they are usually new.

    Raises:
        FarfieldError: if `freeze_through` is not a stage of the network.
    """
    if settings.freeze_through is not None:
        frozen = _modules_through(network, settings.freeze_through)
        count = sum(p.numel() for _, module in frozen for p in module.parameters(recurse=False))
        log.info(
            "all layers up to the end of %s are frozen: %d parameters, and the running statistics of the batch norms",
            settings.freeze_through,
            count,
        )
        for name, module in frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
            if isinstance(module, BATCH_NORMS):
                network.backbone.trunk.set_submodule(name, freeze_batch_norm(module))
    if settings.freeze_batch_norm:
        norms = [
            name
            for name, module in network.named_modules()
            if isinstance(module, BATCH_NORMS) and ".inserted." not in name
        ]
        log.info("%d batch norms are frozen; those of inserted blocks are still trained", len(norms))
        for name in norms:
            network.set_submodule(name, freeze_batch_norm(network.get_submodule(name)))


def _modules_through(network: ActionNet, stage: str) -> list[tuple[str, nn.Module]]:
    """List (name, module) of the trunk's layers up to the end of a stage, without the layers of inserted blocks.

    Layers are modules without submodules, and modules with parameters of their own. Names are relative to the trunk.

    Raises:
        FarfieldError: if the network has no such stage.
    """
    order = network.backbone.depth_names
    if not order:
        raise FarfieldError(
            f"optimisation.freeze_through is {stage!r}, but this network has no stages. Remove the option."
        )
    if stage not in order:
        raise FarfieldError(
            f"optimisation.freeze_through is {stage!r}, which is not a stage of this network. {nearest(stage, order)}"
        )
    # Besides leaves, embeddings of transformers have parameters of their own.
    modules = {
        name: module
        for name, module in network.backbone.trunk.named_modules()
        if next(module.children(), None) is None or next(module.parameters(recurse=False), None) is not None
    }
    places = network.backbone.places(modules)
    frozen = order[: order.index(stage) + 1]
    return [(name, m) for name, m in modules.items() if places[name].stage in frozen and ".inserted." not in name]
