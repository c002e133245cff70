"""Insertion of blocks into a backbone: where, and what. One function for every backbone and every block."""

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
"""Stage to the indices, from 0, of the residual blocks after which a block is inserted."""

BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "non_local": NonLocalBlock3d,
    "self_attention": SelfAttention,
    "dual_attention": DualAttention,
    "criss_cross": CrissCrossAttention,
    "coordinate_attention": CoordinateAttention,
    "object_context": ObjectContext,
}
"""What can be inserted, by name. Each is called with the number of channels, and its own options by keyword."""


class WithBlock(nn.Module):
    """A residual block followed by an inserted one, in the residual block's place."""

    def __init__(self, residual: nn.Module, inserted: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        self.inserted = inserted

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        return self.inserted(self.residual(x))


def nl1(backbone: Backbone) -> Placement:
    """One block, in res4 right before its last residual block. Wang et al., CVPR 2018, section 4.1."""
    return {"res4": [len(backbone.blocks("res4")) - 2]}


def nl5(backbone: Backbone) -> Placement:
    """Five blocks, after every other residual block of res3 and res4 of a 50-layer network. Ibid., section 4.1."""
    return {"res3": [1, 3], "res4": [1, 3, 5]}


def nl10(backbone: Backbone) -> Placement:
    """Ten blocks in a 50-layer network: after every residual block of res3 and res4. Ibid., section 4.1."""
    return {stage: list(range(len(backbone.blocks(stage)))) for stage in ("res3", "res4")}


PRESETS: dict[str, Callable[[Backbone], Placement]] = {"nl1": nl1, "nl5": nl5, "nl10": nl10}


def insert_blocks(backbone: Backbone, where: str | Placement, make_block: Callable[[int], nn.Module]) -> None:
    """Inserts blocks into a backbone, in place.

    Args:
        backbone: the network; a residual block at index i stays at index i.
        where: a preset's name, or {stage: indices}.
        make_block: called with the number of channels, gives a block that keeps the shape (b c t h w).

    Raises:
        FarfieldError: for a preset, a stage or a residual block that does not exist, or a place named twice.
            The backbone is unchanged then.
    """
    if isinstance(where, str):
        if where not in PRESETS:
            raise FarfieldError(
                f"insert is {where!r}, which is no preset. {nearest(where, PRESETS)} Or give {{stage: indices}}."
            )
        given, where = f"insert={where!r} places blocks at {dict(PRESETS[where](backbone))}; ", PRESETS[where](backbone)
    else:
        given = ""
    for stage, indices in where.items():
        if stage not in backbone.stage_specs:
            raise FarfieldError(f"{given}there is no stage {stage!r}. {nearest(stage, backbone.stage_specs)}")
        count = len(backbone.blocks(stage))
        for index in indices:
            if not 0 <= index < count:
                raise FarfieldError(
                    f"{given}there is no residual block {index} in {stage}: this network has {count} there, "
                    f"0 to {count - 1}. Choose among these."
                )
            if list(indices).count(index) > 1 or isinstance(backbone.blocks(stage)[index], WithBlock):
                raise FarfieldError(f"{given}a block at {stage}, {index} is asked for twice. Name each place once.")
    made = {  # all of them before the first is placed, should one fail
        (stage, index): make_block(backbone.stage_specs[stage].channels)
        for stage, indices in where.items()
        for index in indices
    }
    for (stage, index), block in made.items():
        blocks = backbone.blocks(stage)
        blocks[index] = WithBlock(blocks[index], block)
