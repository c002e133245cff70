"""Translate plain weight names to the keys of a network's state dict.

A plain name, such as `res3.1.branch2.conv_a.weight`, does not depend on how a network is implemented. Plain names are
described in checkpoints/converters/weight_names.py.
"""

from __future__ import annotations

from farfield.models.backbones import Backbone, TwoPathwayBackbone

PATHWAYS = ("", "fast_")
"""Prefix of plain names in the slow (or only) and in the fast pathway."""


def to_network(plain: str, backbone: Backbone) -> str:
    """Translate a plain name to the key in the state dict of an `ActionNet` without inserted blocks.

    If a block is inserted after a residual block, the keys of the residual block also have the part `residual.`, see
    `WithBlock`. This function does not add it.
    """
    head, _, rest = plain.partition(".")
    fast = head.startswith("fast_")
    if head == "head":
        if rest.startswith("pre_"):
            return f"backbone.trunk.blocks.5.{rest}"
        return f"head.embedding.{rest}" if rest.startswith("post_") else plain
    if head.startswith("fuse"):
        return f"backbone.trunk.blocks.{int(head[4:]) - 1}.multipathway_fusion.{rest}"
    if head.removeprefix("fast_") == "stem":
        two = f"multipathway_blocks.{int(fast)}." if isinstance(backbone, TwoPathwayBackbone) else ""
        return f"backbone.trunk.blocks.0.{two}{rest}"
    index, _, rest = rest.partition(".")
    paths = backbone.stage_specs[head].paths if head in backbone.stage_specs else ()
    place = paths[int(index)] if int(index) < len(paths) else f"{head}.{index}"
    return f"backbone.trunk.{place}.{rest}"
