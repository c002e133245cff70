"""Insert blocks into a backbone. One function serves every backbone and every type of block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from farfield.errors import FarfieldError, nearest
from farfield.layers import (
    CoordinateAttention,
    CrissCrossAttention,
    DualAttention,
    NonLocalBlock3d,
    ObjectContext,
    SelfAttention,
)
from farfield.models.backbones import Backbone

Placement = Mapping[str, Sequence[int]]
"""For each stage, the indices (from 0) of the residual blocks after which a block is inserted."""

BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "non_local": NonLocalBlock3d,
    "self_attention": SelfAttention,
    "dual_attention": DualAttention,
    "criss_cross": CrissCrossAttention,
    "coordinate_attention": CoordinateAttention,
    "object_context": ObjectContext,
}
"""Block classes by name. Each takes the number of channels, and its options by keyword."""


class WithBlock(nn.Module):
    """A residual block followed by an inserted block. The pair takes the residual block's place in the backbone."""

    def __init__(self, residual: nn.Module, inserted: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        self.inserted = inserted

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        return self.inserted(self.residual(x))


def nl1(backbone: Backbone) -> Placement:
    """Place one block in res4, right before its last residual block. Wang et al., CVPR 2018, section 4.1."""
    return {"res4": [len(backbone.blocks("res4")) - 2]}


def nl5(backbone: Backbone) -> Placement:
    """Place five blocks, after every other residual block of res3 and res4 of a 50-layer network.

    As in Wang et al., CVPR 2018, section 4.1. PySlowFast's 101-layer networks have blocks at the same five places
    (configs/Kinetics/I3D_NLN_8x8_R101.yaml).
    """
    return {"res3": [1, 3], "res4": [1, 3, 5]}


def nl10(backbone: Backbone) -> Placement:
    """Place ten blocks, after every residual block of res3 and res4 of a 50-layer network.

    As in Wang et al., CVPR 2018, section 4.1.
    """
    return {"res3": [0, 1, 2, 3], "res4": [0, 1, 2, 3, 4, 5]}


def nl5_r101(backbone: Backbone) -> Placement:
    """Place five blocks in a 101-layer network.

    As in the code of Wang et al., CVPR 2018: after every second residual block of res3 and every seventh of res4
    (facebookresearch/video-nonlocal-net, lib/models/resnet_video.py).
    """
    return {"res3": [1, 3], "res4": [6, 13, 20]}


def nl3_r101(backbone: Backbone) -> Placement:
    """Place three blocks in res4 of a 101-layer network.

    As in SlowFast 16x8 R101 + NL (Feichtenhofer et al., ICCV 2019, table 2; PySlowFast's
    configs/Kinetics/c2/SLOWFAST_NLN_16x8_R101_50_50.yaml).
    """
    return {"res4": [6, 13, 20]}


PRESETS: dict[str, Callable[[Backbone], Placement]] = {
    "nl1": nl1,
    "nl5": nl5,
    "nl10": nl10,
    "nl5_r101": nl5_r101,
    "nl3_r101": nl3_r101,
}


def resolve_placement(backbone: Backbone, where: str | Placement) -> Placement:
    """Resolve a preset's name or a mapping to a placement, and check that its residual blocks exist.

    Raises:
        FarfieldError: for a preset, a stage or a residual block that does not exist, or a residual block given twice.
    """
    given = ""
    if isinstance(where, str):
        if where.lstrip().startswith("{"):  # a mapping from the command line that did not parse
            raise FarfieldError(f"insert is {where!r}; give lists of block indices, e.g. {{res3: [1], res4: [1, 3]}}.")
        if where not in PRESETS:
            raise FarfieldError(
                f"insert is {where!r}, which is not a preset. {nearest(where, PRESETS)} Or give {{stage: indices}}."
            )
        if not backbone.stage_specs:
            raise FarfieldError(f"insert is {where!r}, but this network has no stages for blocks. Leave insert out.")
        preset, where = where, PRESETS[where](backbone)
        given = f"insert={preset!r} places blocks at {dict(where)}; "
    for stage, indices in where.items():
        if stage not in backbone.stage_specs:
            known = nearest(stage, backbone.stage_specs) if backbone.stage_specs else "This network has none."
            raise FarfieldError(f"{given}there is no stage {stage!r}. {known}")
        count = len(backbone.blocks(stage))
        for index in indices:
            if not 0 <= index < count:
                raise FarfieldError(
                    f"{given}there is no residual block {index} in {stage}: this network has {count} there. Choose "
                    f"from 0 to {count - 1}."
                )
            if list(indices).count(index) > 1:
                raise FarfieldError(f"{given}residual block {index} of {stage} is given twice. Give it once.")
    return where


def insert_blocks(backbone: Backbone, where: str | Placement, make_block: Callable[[int], nn.Module]) -> None:
    """Insert blocks into a backbone, in place.

    Args:
        backbone: backbone to change; a residual block at index i stays at index i.
        where: name of a preset, or {stage: indices of residual blocks}.
        make_block: function that takes the number of channels and creates a block. The block keeps the shape
            (b c t h w).

    Raises:
        FarfieldError: for a preset, a stage or a residual block that does not exist, or a place that already has a
            block. The backbone is then unchanged.
    """
    where = resolve_placement(backbone, where)
    for stage, indices in where.items():
        for index in indices:
            if isinstance(backbone.blocks(stage)[index], WithBlock):
                raise FarfieldError(
                    f"there is already a block after residual block {index} of {stage}. Choose another residual block."
                )
    made = {  # all before the first is inserted, so that a failure changes nothing
        (stage, index): make_block(backbone.stage(stage).channels[index])
        for stage, indices in where.items()
        for index in indices
    }
    for (stage, index), block in made.items():
        backbone.replace_block(stage, index, WithBlock(backbone.blocks(stage)[index], block))
