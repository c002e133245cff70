"""Heads of a probe: trained on the features of a frozen network, then joined with it into one network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.errors import FarfieldError
from farfield.models.insertion import resolve_placement
from farfield.models.network import ActionNet, assemble
from farfield.models.network_options import NetworkOptions
from farfield.probing.options import HeadName

log = logging.getLogger("farfield")

ATTENTION_HEADS = 16
"""Number of attention heads of the `attentive` head, as in V-JEPA 2's probe."""
MIN_STD = 0.1
"""Minimum standard deviation that a channel is divided by, relative to the mean standard deviation of all channels.

Without it, a channel that hardly varies would get a large weight, and fine-tuning from the checkpoint would diverge.
"""


class ProbeHead(nn.Module):
    """The part of a network that a probe trains: the classifier, the pooling, and any new blocks after the last stage.

    The classifier sees standardised vectors, so that one grid of learning rates suits every network. An "attentive"
    head needs no standardisation, since its norms keep the vectors at a scale of about 1. `finish` folds the
    standardisation into the classifier, which changes scores by rounding only. Dropout is not applied.

    Args:
        network: network that the head is a part of. The head and the network share their weights.
        name: kind of head: "linear", "attentive" or "non_local".
        old_blocks: for each pathway, the number of blocks after the last stage that belong to the frozen network.
        vectors: average-pooled features of training clips, for the standardisation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: ActionNet,
        name: HeadName,
        *,
        old_blocks: Sequence[int],
        vectors: Float[Tensor, "clips c"],
    ) -> None:
        super().__init__()
        self.name = name
        self.network = [network]  # in a list, so that the trunk is no part of this module
        self.head = network.head
        blocks = [network.backbone.top_blocks(top) for top in network.backbone.tops]
        self.tops = nn.ModuleList(each[old:] for each, old in zip(blocks, old_blocks, strict=True))
        mean, std = vectors.mean(0), vectors.std(0, correction=0)
        if name == "attentive":  # its vectors change as it is trained, and norms keep them of the order of 1
            mean, std = torch.zeros_like(mean), torch.ones_like(std)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.clamp(min=MIN_STD * float(std.mean())).where(std.max() > 0, 1.0))

    @property
    def takes_maps(self) -> bool:
        """Whether the input is the maps of all pathways; otherwise it is the pooled vector."""
        return self.name != "linear"

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by name."""
        return {name: each for name, each in self.named_parameters() if not name.startswith("head.embedding.")}

    def train(self, mode: bool = True) -> ProbeHead:
        super().train(mode)
        self.head.embedding.eval()  # frozen
        return self

    def forward(self, *features: Tensor) -> Float[Tensor, "b classes"]:
        """Score clips, given their vectors (b c), or the maps (b c t h w) of each pathway."""
        vectors = features[0]
        if self.takes_maps:
            maps = [top(each) for top, each in zip(self.tops, features, strict=True)]
            vectors = self.head.embed(maps)[:, 0]
        return self.head.normalise_heads(self.head.fc((vectors - self.mean) / self.std))

    @torch.no_grad()
    def finish(self) -> ActionNet:
        """Fold the standardisation into the classifier, and return the complete network in evaluation mode."""
        fc, network = self.head.fc, self.network[0]
        weight = fc.weight.double() / self.std.double()
        fc.bias.copy_(fc.bias.double() - weight @ self.mean.double())
        fc.weight.copy_(weight)
        self.mean.zero_()
        self.std.fill_(1.0)
        return network.eval()


def pooled_network(network: ActionNet) -> ActionNet:
    """Return a copy of the network with the head "gap_fc" (average pooling), for computing features to cache.

    The copy shares the weights of all other layers with the network.
    """
    return _variant(network, {"head": "gap_fc", "head_windows": None, "head_options": None})


def check_heads(network: ActionNet, heads: Sequence[HeadName]) -> None:
    """Raise `FarfieldError` if the network has no feature maps and one of the heads needs them."""
    if set(heads) != {"linear"} and not network.backbone.has_map:
        raise FarfieldError(
            f"probe.heads is {list(heads)}, but the features of {network.config['backbone']} have no positions in "
            "space and time, which all heads except 'linear' need. Set probe.heads to [linear]."
        )


def make_head(
    network: ActionNet,
    name: HeadName,
    *,
    vectors: Float[Tensor, "clips c"],
    map_shapes: Sequence[Sequence[int]],
    head_options: dict[str, Any] | None,
    seed: int,
) -> ProbeHead:
    """Make a head with random weights for a frozen network. The weights depend on the seed only.

    Args:
        network: network from `pooled_network`.
        name: kind of head: "linear", "attentive" or "non_local".
        vectors: average-pooled features of training clips. The classifier's input is standardised by their mean and
            deviation, except in an "attentive" head.
        map_shapes: for each pathway, size (c t h w) of the cached maps of training clips.
        head_options: options of the head "attentive" that differ from V-JEPA 2's.
        seed: seed of the random weights.

    Raises:
        FarfieldError: for options that do not fit the network.
    """
    old_blocks = [len(network.backbone.top_blocks(top)) for top in network.backbone.tops]
    changes: dict[str, Any] = {}
    if name == "attentive":
        changes = {"head": "attentive", "head_options": _attention_options(map_shapes, head_options)}
    elif name == "non_local":
        changes = _non_local_options(network, old_blocks, map_shapes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _variant(network, changes)
        nn.init.normal_(made.head.fc.weight, std=0.01)
        nn.init.zeros_(made.head.fc.bias)
    return ProbeHead(made, name, old_blocks=old_blocks, vectors=vectors)


def _attention_options(map_shapes: Sequence[Sequence[int]], given: dict[str, Any] | None) -> dict[str, Any]:
    options = {"num_heads": ATTENTION_HEADS, **(given or {})}
    if "num_heads" not in (given or {}):
        fitting = [n for n in range(1, ATTENTION_HEADS + 1) if all(shape[0] % n == 0 for shape in map_shapes)]
        options["num_heads"] = fitting[-1]
        if fitting[-1] < ATTENTION_HEADS:
            channels = " and ".join(str(shape[0]) for shape in map_shapes)
            log.info(
                "the attentive head has %d attention heads, because the number of channels (%s) is not a multiple "
                "of %d",
                fitting[-1],
                channels,
                ATTENTION_HEADS,
            )
    return options


def _non_local_options(
    network: ActionNet, old_blocks: Sequence[int], map_shapes: Sequence[Sequence[int]]
) -> dict[str, Any]:
    config = network.config
    if config["insert"] and config["block"] != "non_local":
        raise FarfieldError(
            f"probe.heads has 'non_local', but the network's inserted blocks are {config['block']!r}, and all blocks "
            "of a network must be of one kind. Leave 'non_local' out of probe.heads."
        )
    placement = dict(resolve_placement(network.backbone, config["insert"])) if config["insert"] else {}
    tops = {top: old + 1 for top, old in zip(network.backbone.tops, old_blocks, strict=True)}
    options = dict(config["block_options"] or {})
    if not config["insert"] and min(side for shape in map_shapes for side in shape[2:]) < 2:
        options["key_pool"] = None  # a map of one row cannot be pooled
    return {"insert": {**placement, **tops}, "block_options": options}


def _variant(network: ActionNet, changes: dict[str, Any]) -> ActionNet:
    """Build a network with changed options. Its classifier and any layers that the changes add have random weights.

    It shares the trunk, `head.embedding` and the existing blocks after the last stage with the given network.
    """
    fields = {**network.config, "clip": network.clip.to_dict(), "labels": network.labels, **changes}
    made = assemble(replace(NetworkOptions(network.config["backbone"]), **fields))
    made.backbone.trunk = network.backbone.trunk
    made.head.embedding = network.head.embedding
    for top in network.backbone.tops:
        blocks = made.backbone.top_blocks(top)
        for place, block in enumerate(network.backbone.top_blocks(top)):
            blocks[place] = block
    return made.eval()
