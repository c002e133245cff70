"""Record the inputs of a network's inserted blocks, and compute where the blocks' positions lie in the clip.

A block's positions form a grid (t h w) that is coarser than the clip. In space, each position covers an equal part of
the frame. In time, each position covers an equal part of the frames of its pathway. The frames of a slow pathway run
from the first to the last frame of the clip, for example 0, 4, 8, 13, ... 31 of 32, and are not exactly evenly spaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.models.backbones import Backbone, TwoPathwayBackbone
from farfield.models.backbones.backbone import slow_frames
from farfield.models.insertion import WithBlock
from farfield.models.network import ActionNet

Middles = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Middle of each position in the clip along t, h and w, in [0, 1), ascending."""


@dataclass(frozen=True)
class BlockActivation:
    """Input of one inserted block, and the block's effect on the score of a class.

    Attributes:
        name: stage and index, counted from 0, of the residual block after which the block is inserted, for example
            "res4[1]"; "top[0]" for the first block after the last stage.
        block: the inserted module.
        x: input of the block.
        middles: middles of the positions of x along t, h and w, as fractions of the clip in [0, 1).
        is_identity: whether the block's output z equals x, as at initialisation.
        effect: effect of the block at each position i on a class's score y, |dy/dz_i . (z_i - x_i)|; None if no class
            was given.
    """

    name: str
    block: Any
    x: Float[Tensor, "1 c t h w"]
    middles: Middles
    is_identity: bool
    effect: Float[Tensor, "t h w"] | None = None


def record_activations(
    network: ActionNet, clip: Float[Tensor, "1 3 t h w"], *, class_index: int | None = None
) -> list[BlockActivation]:
    """Run a clip through the network, and record the input of each inserted block, in the network's order.

    Args:
        network: network in evaluation mode, on the device of the clip. Its weights get no gradient.
        clip: clip, normalised by `network.clip`.
        class_index: index of the class for whose score the blocks' effects are computed; None to compute no effects.
            A backward pass from the score to the first block computes them. The score is the logit, because the
            gradient of a probability vanishes if the network is certain.
    """
    backbone, num_frames = network.backbone, clip.shape[2]
    names = {
        residual.inserted: (f"{stage}[{index}]", stage)
        for stage in backbone.stage_specs
        for index, residual in enumerate(backbone.blocks(stage))
        if isinstance(residual, WithBlock)
    }
    for top in backbone.tops:
        for index, pair in enumerate(backbone.top_blocks(top)):
            assert isinstance(pair, WithBlock)
            names[pair.inserted] = f"{top}[{index}]", top
    kept: dict[str, tuple[Any, Tensor, Tensor, Middles]] = {}

    def record(block: Any, given: tuple[Tensor, ...], z: Tensor) -> Tensor | None:
        name, stage = names[block]
        leaf = z if z.requires_grad and kept else z.detach().requires_grad_(class_index is not None)
        kept[name] = block, given[0].detach(), leaf, grid_middles(backbone, stage, num_frames, z.shape[2:])
        return leaf.clone()  # later layers may modify it in place

    hooks = [block.register_forward_hook(record) for block in names]
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(class_index is not None):
            scores = network(clip.clone())
            slopes: Sequence[Tensor | None] = [None] * len(kept)
            if kept and class_index is not None:
                slopes = torch.autograd.grad(scores[0, class_index], [z for _, _, z, _ in kept.values()])
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for slope, (name, (block, x, z, middles)) in zip(slopes, kept.items(), strict=True):
        effect = None if slope is None else (slope * (z - x)).detach()[0].sum(0).abs().float().cpu()
        found.append(BlockActivation(name, block, x, middles, torch.equal(z, x), effect))
    return found


def grid_middles(backbone: Backbone, stage: str, num_frames: int, size: tuple[int, ...]) -> Middles:
    """Compute the middles of the positions of a stage's features along t, h and w, as fractions of the clip in [0, 1).

    Args:
        backbone: backbone of the stage.
        stage: name of the stage, for example "res4"; "fast_res4" is in the fast pathway of a network with two pathways.
        num_frames: number of frames of the network's input.
        size: size of the features along t, h and w.
    """
    frames: Any = np.arange(num_frames)
    if backbone.pooled_frames and stage != "res2":
        frames = frames[: size[0] * backbone.pooled_frames]
    if isinstance(backbone, TwoPathwayBackbone) and not stage.startswith("fast_"):
        frames = np.array(slow_frames(num_frames, num_frames // backbone.alpha))
    steps = np.interp(even_middles(size[0]) * len(frames) - 0.5, np.arange(len(frames)), (frames + 0.5) / num_frames)
    return steps, even_middles(size[1]), even_middles(size[2])


def even_middles(size: int) -> Float[np.ndarray, " size"]:
    """Return the middles of `size` equal parts of [0, 1)."""
    return (np.arange(size) + 0.5) / size


def nearest_index(at: float, middles: Float[np.ndarray, " size"]) -> int:
    """Return the index of the middle that is nearest to `at`, a coordinate in [0, 1)."""
    return int(np.searchsorted((middles[1:] + middles[:-1]) / 2, at, side="right"))
