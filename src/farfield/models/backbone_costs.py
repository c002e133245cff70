"""Costs of all backbones at their own clip size, without blocks and with the paper's five non-local blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.models.backbones import BACKBONES
from farfield.models.network import assemble, default_clip
from farfield.models.network_options import NetworkOptions
from farfield.models.published_results import PUBLISHED, PublishedResult
from farfield.models.summary import summarise


@dataclass(frozen=True)
class Costs:
    """Costs of a network for one clip.

    Attributes:
        parameters: number of learned parameters.
        multiply_adds: number of multiply-adds.
    """

    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class BackboneCosts:
    """Costs of a backbone at its own clip size.

    Attributes:
        backbone: name of the backbone.
        clip: the backbone's own clip.
        plain: costs without blocks.
        nl5: costs with five non-local blocks; None if the backbone has no places for them.
        published: published result without blocks; None if there is none.
    """

    backbone: str
    clip: ClipSpec
    plain: Costs
    nl5: Costs | None
    published: PublishedResult | None


def backbone_costs(num_classes: int) -> list[BackboneCosts]:
    """Count the costs of every backbone in `BACKBONES`."""
    return [
        BackboneCosts(
            name, default_clip(name), _costs(name, num_classes), _nl5(name, num_classes), PUBLISHED.get((name, None))
        )
        for name in BACKBONES
    ]


def _costs(backbone: str, num_classes: int, insert: str | None = None) -> Costs:
    with torch.device("meta"):
        network = assemble(NetworkOptions(backbone, num_classes=num_classes, insert=insert))
    found = summarise(network)
    return Costs(found.parameters, found.multiply_adds)


def _nl5(backbone: str, num_classes: int) -> Costs | None:
    try:
        return _costs(backbone, num_classes, "nl5")
    except FarfieldError:  # the backbone has no residual stages to insert blocks into
        return None
