"""Which parts of a network learn, by which statistics, and how fast, by their depth."""

from __future__ import annotations

import logging

from torch import nn

from farfield.errors import FarfieldError, nearest
from farfield.layers import freeze_batch_norm, split_batch_norm
from farfield.models.network import ActionNet
from farfield.training.optimisation import Optimisation

log = logging.getLogger("farfield")


def prepare(network: ActionNet, settings: Optimisation) -> None:
    """Freezes what the settings say, and splits norms, in place.

    A frozen stage keeps its weights and its norms' statistics; blocks inserted into it go on learning, since they are
    new as a rule.

    Raises:
        FarfieldError: for a stage that the network does not have.
    """
    if settings.freeze_through is not None:
        frozen = _until(network, settings.freeze_through)
        count = sum(p.numel() for _, module in frozen for p in module.parameters(recurse=False))
        log.info("frozen up to the end of %s: %d parameters and their norms", settings.freeze_through, count)
        for name, module in frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                network.backbone.trunk.set_submodule(name, freeze_batch_norm(module))
    if settings.freeze_batch_norm:
        norms = [
            name
            for name, module in network.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and ".inserted." not in name
        ]
        log.info("%d batch norms are frozen; those of inserted blocks learn", len(norms))
        for name in norms:
            network.set_submodule(name, freeze_batch_norm(network.get_submodule(name)))
    if settings.sub_batch_norm_splits > 1:
        split_batch_norm(network, settings.sub_batch_norm_splits)


def _until(network: ActionNet, stage: str) -> list[tuple[str, nn.Module]]:
    """The trunk's modules up to the end of a stage, inserted blocks left out."""
    stages = [name for name in network.backbone.stage_specs if not name.startswith("fast_")]
    if not stages:
        raise FarfieldError(f"optimisation.freeze_through is {stage!r}, and this network has no stages. Leave it out.")
    order = ["stem", *stages]
    if stage not in order:
        raise FarfieldError(f"optimisation.freeze_through is {stage!r}. {nearest(stage, order)}")
    # The paths that hold other modules have no parameters of their own, so that leaves tell where everything is.
    leaves = {name: m for name, m in network.backbone.trunk.named_modules() if next(m.children(), None) is None}
    places = network.backbone.places(leaves)
    frozen = order[: order.index(stage) + 1]
    return [(name, m) for name, m in leaves.items() if places[name].stage in frozen and ".inserted." not in name]


def learning_rate_scales(network: ActionNet, layer_decay: float) -> dict[str, float]:
    """Parameter to its share of the learning rate: 1 in the head, `layer_decay` less for each layer below.

    A layer is a residual block with what is inserted after it; the stem is the lowest (Clark et al., "ELECTRA", ICLR
    2020, section 3.1, for transformers; Bao et al., "BEiT", ICLR 2022, for vision).

    Raises:
        FarfieldError: for a network without stages.
    """
    if not network.backbone.stage_specs:
        raise FarfieldError("optimisation.layer_decay goes by stages, and this network has none. Leave it out.")
    trunk = "backbone.trunk."
    names = [name.removeprefix(trunk) for name, _ in network.named_parameters() if name.startswith(trunk)]
    places = network.backbone.places(names)
    top = max((place.layer for place in places.values()), default=0) + 1
    return {
        name: layer_decay ** (top - places[name.removeprefix(trunk)].layer) if name.startswith(trunk) else 1.0
        for name, _ in network.named_parameters()
    }
