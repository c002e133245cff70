"""What a position of a clip attends to, in each inserted block: the paper's figure 3, by weights.

Only the asked rows of a block's attention are computed, never the n x n matrix. Where no position is given, the one is
shown whose attention is the least spread out, of a grid over the clip: a position that attends to everything alike
explains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from farfield.models.insertion import WithBlock
from farfield.models.network import ActionNet


@dataclass(frozen=True)
class AttentionMap:
    """What one position attends to in one block.

    Attributes:
        block: where the block is inserted, as "res4[1]".
        query: the position: where its middle lies in the clip, (t, h, w) in [0, 1).
        weights: over the positions of the keys; not negative, they sum to 1, averaged over heads. Forms that are no
            softmax have signs, which are left out.
        entropy: of the weights, in bits; uniform attention has log2 of their number.
    """

    block: str
    query: tuple[float, float, float]
    weights: Float[Tensor, "t h w"]
    entropy: float


@torch.no_grad()
def attention_maps(
    network: ActionNet, clip: Float[Tensor, "1 3 t h w"], *, position: tuple[float, float, float] | None = None
) -> list[AttentionMap]:
    """The attention of one position in each inserted block that has such maps, in the network's order.

    Args:
        network: in evaluation mode, on the device of the clip.
        clip: normalised as `network.clip` says.
        position: (t, h, w) in [0, 1); None for the one of a grid of 4 x 4 x 4 whose attention has the least entropy,
            for each block.
    """
    inputs: dict[str, tuple[Any, Tensor]] = {}

    def keep(name: str) -> Any:
        def look(block: Any, given: tuple[Tensor, ...]) -> None:
            inputs[name] = block, given[0]

        return look

    blocks = {
        f"{stage}[{index}]": residual.inserted
        for stage in network.backbone.stage_specs
        for index, residual in enumerate(network.backbone.blocks(stage))
        if isinstance(residual, WithBlock) and hasattr(residual.inserted, "attention")
    }
    hooks = [block.register_forward_pre_hook(keep(name)) for name, block in blocks.items()]
    try:
        network(clip)
    finally:
        for hook in hooks:
            hook.remove()
    return [_map(name, block, x, position) for name, (block, x) in inputs.items()]


def _map(name: str, block: Any, x: Tensor, position: tuple[float, float, float] | None) -> AttentionMap:
    sizes = x.shape[2:]
    wanted = [position] if position is not None else _grid()
    places = torch.tensor([[int(p * size) for p, size in zip(each, sizes, strict=True)] for each in wanted])
    places = places.unique(dim=0)
    weights = block.attention(x, places.to(x.device))[0].float().abs().mean(0)  # q t h w
    weights = weights / weights.sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
    entropies = torch.special.entr(weights).sum((1, 2, 3)) / np.log(2)
    best = int(entropies.argmin())
    t, h, w = ((float(at) + 0.5) / size for at, size in zip(places[best].tolist(), sizes, strict=True))
    return AttentionMap(name, (t, h, w), weights[best].cpu(), float(entropies[best]))


def _grid() -> list[tuple[float, float, float]]:
    steps = [(i + 0.5) / 4 for i in range(4)]
    return [(t, h, w) for t in steps for h in steps for w in steps]


def draw_attention(
    frames: UInt8[np.ndarray, "t h w c"], maps: Sequence[AttentionMap], *, columns: int = 8, title: str = ""
) -> Figure:
    """Draws a row of frames for each map: the darker a place, the less of the attention it gets.

    The position itself has a box, in the frame that it is nearest to.

    Args:
        frames: the clip.
        maps: what to draw, at least one.
        columns: frames to show, evenly from all.
        title: above the rows.
    """
    t, height, width = frames.shape[:3]
    shown = np.unique(np.linspace(0, t - 1, min(columns, t)).round().astype(int))
    times = max(round(112 / height), 1)  # small frames are enlarged
    rows = []
    for each in maps:
        over = F.interpolate(each.weights[None, None], size=(t, height, width), mode="trilinear")[0, 0].numpy()
        over = over[shown, ..., None] / max(float(over.max()), 1e-12)
        pictures = frames[shown] * (0.3 + 0.7 * over)
        glow = 0.4 * np.clip((over - 0.35) / 0.65, 0, 1)
        pictures = pictures * (1 - glow) + glow * np.array([255, 120, 0])
        pictures = pictures.repeat(times, 1).repeat(times, 2)
        nearest = int(np.argmin(np.abs(shown + 0.5 - each.query[0] * t)))
        _draw_box(pictures[nearest], each.query[1:])
        rows.append(np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255).swapaxes(0, 1))
    mosaic = np.concatenate([row.reshape(row.shape[0], -1, 3) for row in rows]).astype(np.uint8)
    figure = Figure(figsize=(mosaic.shape[1] / 90 + 0.9, mosaic.shape[0] / 90 + (0.4 if title else 0.1)))
    axes = figure.add_axes(
        (
            0.9 / figure.get_figwidth(),
            0,
            1 - 0.9 / figure.get_figwidth(),
            1 - 0.3 * bool(title) / figure.get_figheight(),
        )
    )
    axes.imshow(mosaic, aspect="auto", interpolation="nearest")
    of_row = mosaic.shape[0] / len(maps)
    axes.set_yticks(
        [(i + 0.5) * of_row for i in range(len(maps))],
        [f"{each.block}\n{each.entropy:.1f} bits" for each in maps],
        fontsize=8,
    )
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, fontsize=9, parse_math=False)  # a label may hold dollars
    return figure


def _draw_box(picture: np.ndarray, place: tuple[float, float]) -> None:
    """A frame of an eighth of the picture's height around a place, in it."""
    height, width = picture.shape[:2]
    half = max(height // 16, 3)
    y, x = (int(np.clip(at * size, half, size - 1 - half)) for at, size in zip(place, (height, width), strict=True))
    for outer, colour in ((half, (0, 0, 0)), (half - 1, (0, 255, 255))):
        box = picture[y - outer : y + outer + 1, x - outer : x + outer + 1]
        box[[0, -1]] = box[:, [0, -1]] = colour
