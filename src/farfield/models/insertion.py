"""Insert blocks into a backbone. One function serves every backbone and every type of block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
from farfield.models.backbones import STAGES, TOPS, Backbone

Placement = Mapping[str, Sequence[int] | int]
"""Places of inserted blocks.

For each stage: the indices (from 0) of the residual blocks after which a block is inserted. For "top" (and "fast_top"
in a network of two pathways): the number of blocks on the map after the last stage.
"""

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
    """Place three blocks in res4 of a 101-layer network, after every seventh residual block.

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


def is_place(name: Any, where: Any) -> bool:
    """Return whether {name: where} has the form of an entry of `Placement`, which says where blocks are inserted.

    The form is right if the name is any string and `where` is a list of integers. If the name is "top" or "fast_top",
    any `where` is accepted. `resolve_placement` checks the rest: whether the stage and the residual blocks exist, and
    whether the value of "top" or "fast_top" is a whole number of at least 1.
    """
    if name in TOPS:
        return True
    is_list = isinstance(where, Sequence) and not isinstance(where, str)
    return isinstance(name, str) and is_list and all(type(index) is int for index in where)


def resolve_placement(backbone: Backbone, where: str | Placement) -> Placement:
    """Return the mapping that says where blocks are inserted, and check that they can be inserted there.

    Args:
        backbone: backbone to insert blocks into.
        where: name of a preset, or the mapping itself, see `insert_blocks`.

    Raises:
        FarfieldError: if blocks cannot be inserted at the places in `where`:
            - `where` is neither text nor a mapping.
            - A preset, a stage or a residual block does not exist.
            - A residual block is given twice.
            - The number of blocks after the last stage is not a whole number of at least 1.
            - Blocks are placed after the last stage of a network whose features have no positions.
    """
    given = ""
    if isinstance(where, str):
        preset, where = where, _preset_placement(backbone, where)
        given = f"insert={preset!r} places blocks at {dict(where)}; "
    if not isinstance(where, Mapping):
        raise FarfieldError(
            f"insert is {where!r}; give a preset ({', '.join(PRESETS)}), the indices of residual blocks by stage, e.g. "
            "{res3: [1]}, or a number of blocks after the last stage, e.g. {top: 1}."
        )
    for stage, indices in where.items():
        if stage in backbone.tops:
            _check_top(backbone, stage, indices)
        else:
            _check_stage(backbone, stage, indices, given)
    return where


def _preset_placement(backbone: Backbone, preset: str) -> Placement:
    if preset.lstrip().startswith("{"):  # a mapping from the command line that did not parse
        raise FarfieldError(
            f"insert is the text {preset!r}, not a mapping. Give lists of block indices, e.g. "
            "{res3: [1], res4: [1, 3]}."
        )
    if preset not in PRESETS:
        raise FarfieldError(
            f"insert is {preset!r}, which is not a preset. {nearest(preset, PRESETS)} Or give {{stage: indices}}."
        )
    if not backbone.stage_specs:
        advice = "Leave insert out, or give a number of blocks on top: {top: 1}."
        raise FarfieldError(f"insert is {preset!r}, but this network has no stages for blocks. {advice}")
    return PRESETS[preset](backbone)


def _check_stage(backbone: Backbone, stage: str, indices: Sequence[int] | int, given: str) -> None:
    """Raise an error if a stage or residual block does not exist, or a residual block is given twice.

    Args:
        backbone: backbone to insert blocks into.
        stage: name of the stage.
        indices: indices of residual blocks. For a stage that exists, `NetworkOptions` has already refused a single
            number.
        given: text that error messages start with. It names the preset that the indices are from; "" if they are the
            user's own.
    """
    if stage not in backbone.stage_specs:
        known = [*backbone.stage_specs, *(backbone.tops if backbone.has_map else ())]
        hint = nearest(stage, known) if known else "This network has no stages."
        raise FarfieldError(f"{given}there is no stage {stage!r}. {hint}")
    assert not isinstance(indices, int)  # NetworkOptions refuses it, by `is_place`
    count = len(backbone.blocks(stage))
    for index in indices:
        if not 0 <= index < count:
            raise FarfieldError(
                f"{given}there is no residual block {index} in {stage}: this network has {count} there. Choose from 0 "
                f"to {count - 1}."
            )
        if list(indices).count(index) > 1:
            raise FarfieldError(f"{given}residual block {index} of {stage} is given twice. Give it once.")


def _check_top(backbone: Backbone, name: str, count: Sequence[int] | int) -> None:
    """Raise an error unless `count` is a number of blocks and the network's features have positions to attend to."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise FarfieldError(f"insert has {name}: {count}; give the number of blocks, at least 1, e.g. {name}: 2.")
    if not backbone.has_map:
        raise FarfieldError(
            f"insert has {name}: {count}, but the features of this network have no positions to attend to. "
            f"Leave {name} out."
        )


def insert_blocks(backbone: Backbone, where: str | Placement, make_block: Callable[[int], nn.Module]) -> None:
    """Insert blocks into a backbone, in place.

    Args:
        backbone: backbone to change. Inserted blocks do not change the indices of its residual blocks.
        where: name of a preset, or a mapping with any of these entries:
            - {name of a stage: indices}: one block after each of these residual blocks, counted from 0.
            - {"top": number}: this number of blocks after the last stage. In a network of two pathways, this is the
              last stage of the slow pathway.
            - {"fast_top": number}: this number of blocks after the last stage of the fast pathway.
        make_block: function that takes the number of channels and creates a block. The block keeps the shape
            (b c t h w).

    Raises:
        FarfieldError: if `resolve_placement` refuses `where`, for example because a stage does not exist, or if a place
            already has a block. The backbone is then unchanged.
    """
    where = resolve_placement(backbone, where)
    tops = {name: count for name, count in where.items() if isinstance(count, int)}
    stages = {name: indices for name, indices in where.items() if not isinstance(indices, int)}
    for name in tops:
        if len(backbone.top_blocks(name)):
            raise FarfieldError(
                f"the backbone already has blocks after its last stage ({name!r}). Leave {name!r} out of insert."
            )
    for stage, indices in stages.items():
        for index in indices:
            if isinstance(backbone.blocks(stage)[index], WithBlock):
                raise FarfieldError(
                    f"there is already a block after residual block {index} of {stage}. Choose another residual block."
                )
    made = {  # all before the first is inserted, so that a failure changes nothing
        (stage, index): make_block(backbone.stage(stage).channels[index])
        for stage, indices in stages.items()
        for index in indices
    }
    channels = _top_channels(backbone) if tops else {}
    made_on_top = {name: [make_block(channels[name]) for _ in range(count)] for name, count in tops.items()}
    for (stage, index), block in made.items():
        backbone.replace_block(stage, index, WithBlock(backbone.blocks(stage)[index], block))
    for name, blocks in made_on_top.items():
        backbone.top_blocks(name).extend(WithBlock(nn.Identity(), block) for block in blocks)


def _top_channels(backbone: Backbone) -> dict[str, int]:
    """Return the number of channels of each pathway's map after the last stage: {name in `backbone.tops`: channels}."""
    if backbone.num_pathways == 1:
        return {backbone.tops[0]: backbone.out_channels}
    slow, fast = backbone.tops
    fast_channels = backbone.stage(f"fast_{STAGES[-1]}").channels[-1]
    return {slow: backbone.out_channels - fast_channels, fast: fast_channels}
