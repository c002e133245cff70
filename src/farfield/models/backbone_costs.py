"""Parameters and multiply-adds of every backbone for one clip, without blocks and with five non-local blocks.

The blocks are those of preset nl5 (Wang et al., CVPR 2018). The clip has the size that the backbone was designed for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.models.backbones import BACKBONES
from farfield.models.network import assemble
from farfield.models.network_options import NetworkOptions
from farfield.models.published_results import PUBLISHED, PublishedResult
from farfield.models.structure_only import structure_only
from farfield.models.summary import Row, summarise


@dataclass(frozen=True)
class Costs:
    """Size and computation of a network.

    Attributes:
        parameters: number of learned parameters.
        multiply_adds: number of multiply-adds for one clip.
    """

    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class BackboneCosts:
    """Parameters and multiply-adds of a backbone, for one clip of the size that it was designed for.

    Attributes:
        backbone: name of the backbone.
        clip: clip settings that the backbone was designed for.
        plain: parameters and multiply-adds without blocks.
        nl5: parameters and multiply-adds with the five non-local blocks of preset nl5; None if the backbone has no
            stages to insert blocks into.
        published: accuracy, parameters and multiply-adds that were published for the backbone without blocks; None if
            nothing is published.
    """

    backbone: str
    clip: ClipSpec
    plain: Costs
    nl5: Costs | None
    published: PublishedResult | None


def backbone_costs(num_classes: int) -> list[BackboneCosts]:
    """Count parameters and multiply-adds of every backbone in `BACKBONES`, with `num_classes` classes."""
    return [_costs(name, num_classes) for name in BACKBONES]


def _costs(backbone: str, num_classes: int) -> BackboneCosts:
    """Count a backbone's parameters and multiply-adds, with and without blocks.

    The network is built once, with blocks. The counts without blocks are the sums over all other parts, since inserted
    blocks do not change shapes.
    """
    plain = NetworkOptions(backbone, num_classes=num_classes)
    with structure_only():
        try:
            network, has_blocks = assemble(replace(plain, insert="nl5")), True
        except FarfieldError:  # the backbone has no residual stages to insert blocks into
            network, has_blocks = assemble(plain), False
    rows = summarise(network).rows
    return BackboneCosts(
        backbone,
        network.clip,
        _sum([row for row in rows if not row.is_inserted]),
        _sum(rows) if has_blocks else None,
        PUBLISHED.get((backbone, None)),
    )


def _sum(rows: list[Row]) -> Costs:
    return Costs(sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows))
