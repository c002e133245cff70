"""Layer-wise learning-rate decay for fine-tuning.

The method is that of Clark et al., "ELECTRA", ICLR 2020, section 3.1; Bao et al., "BEiT", ICLR 2022, use it in vision.
"""

from __future__ import annotations

from farfield.errors import FarfieldError
from farfield.models.network import ActionNet


def learning_rate_scales(network: ActionNet, layer_decay: float) -> dict[str, float]:
    """Map each parameter's name to its learning rate relative to the head's.

    The head's relative rate is 1. A layer's rate is `layer_decay` times the rate of the next layer towards the head. A
    layer is a residual block with the blocks inserted after it, or a layer of a transformer; the stem is the first
    layer.

    Raises:
        FarfieldError: if the network has no stages.
    """
    if not network.backbone.depth_names:
        raise FarfieldError(
            "optimisation.layer_decay needs a network with stages, but this network has none. Remove the option."
        )
    trunk = "backbone.trunk."
    names = [name.removeprefix(trunk) for name, _ in network.named_parameters() if name.startswith(trunk)]
    places = network.backbone.places(names)
    top = max((place.layer for place in places.values()), default=0) + 1
    return {
        name: layer_decay ** (top - places[name.removeprefix(trunk)].layer) if name.startswith(trunk) else 1.0
        for name, _ in network.named_parameters()
    }
