"""Attention maps: for each inserted block, the weights with which one position of a clip attends to all positions.

Only the requested rows of a block's attention are computed, never the n x n matrix over all n positions. If no position
is given, the position whose attention has the least entropy is chosen from a grid over the clip, because a position
that attends to everything equally explains nothing. `most_effective` instead chooses the position by the block's
effect on a class's score.

Softmax weights (Gaussian and embedded Gaussian) are at least 0 and sum to 1. Dot-product weights can be negative, and
concatenation weights have no fixed sum. So in every block, the absolute values of the weights are averaged over heads
and divided by their sum over all keys. If any weights are negative, the signs are kept separately: the sign of each
key's weight after averaging over heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.fonts import draw_text, drawable
from farfield.interpretability.block_activations import (
    BlockActivation,
    Middles,
    even_middles,
    nearest_index,
    record_activations,
)
from farfield.interpretability.heatmap import draw_box, overlay_heat, resample
from farfield.layers import CrissCrossAttention
from farfield.models.network import ActionNet

Position = tuple[float | None, float | None, float | None]
"""(t, h, w) in the clip, each as a fraction in [0, 1). A coordinate that is None is chosen automatically."""

GRID = 4
"""Number of points along each axis of a grid of query positions that covers the clip.

`attention_maps` chooses query positions from this grid. Averages over positions are averages over this grid.
"""


@dataclass(frozen=True)
class AttentionMap:
    """Attention weights of one position, the query, in one block.

    Attributes:
        block: residual block after which the block is inserted, for example "res4[1]".
        query: middle of the query position, (t, h, w), as fractions of the clip in [0, 1).
        weights: weight of each key: the mean over heads of the absolute weights, scaled so that the weights of all keys
            sum to 1.
        entropy: entropy of the weights in bits. Uniform attention over n keys has log2(n) bits.
        places: middles of the keys' positions along t, h and w, as fractions of the clip in [0, 1); None for evenly
            spaced keys. Keys are not evenly spaced if pooling omits positions at the border that do not fill a window,
            or if the block is in a slow pathway.
        signs: sign of each key's weight after averaging over heads: -1, 0 or 1; None if no weights are negative.
        reach: mask of the keys that the query can attend to, given the block's scope; None for all keys.
    """

    block: str
    query: tuple[float, float, float]
    weights: Float[Tensor, "t h w"]
    entropy: float
    places: Middles | None = None
    signs: Float[Tensor, "t h w"] | None = None
    reach: Bool[Tensor, "t h w"] | None = None

    @property
    def middles(self) -> Middles:
        """Middles of the keys in the clip along t, h and w: `places`, or evenly spaced middles if `places` is None."""
        t, h, w = self.weights.shape
        return self.places or (even_middles(t), even_middles(h), even_middles(w))

    @property
    def keys(self) -> int:
        """Number of keys that the query can attend to."""
        return self.weights.numel() if self.reach is None else int(self.reach.sum())

    @property
    def negative_share(self) -> float:
        """Sum of the weights whose sign is negative."""
        return 0.0 if self.signs is None else float(self.weights[self.signs < 0].sum())


@torch.no_grad()
def attention_maps(
    network: ActionNet, clip: Float[Tensor, "1 3 t h w"], *, position: Position | None = None
) -> list[AttentionMap]:
    """Compute the attention map of one position in each inserted block that has attention maps, in the network's order.

    Args:
        network: network in evaluation mode, on the device of the clip.
        clip: clip, normalised by `network.clip`.
        position: (t, h, w) in the clip, each in [0, 1). Coordinates that are None are chosen for each block, from a
            4 x 4 x 4 grid over the clip, so that the position's attention has the least entropy. `position=None`
            chooses all three coordinates.

    Raises:
        FarfieldError: for a position outside of the clip.
    """
    check_position(position)
    return [
        min(attention_rows(activation, position), key=lambda each: each.entropy)
        for activation in record_activations(network, clip)
        if hasattr(activation.block, "attention")
    ]


def check_position(position: Position | None) -> None:
    """Check that a position lies in the clip.

    Raises:
        FarfieldError: for a position outside of the clip.
    """
    if position is not None and not all(at is None or 0 <= at < 1 for at in position):
        raise FarfieldError(
            f"position is {position}; t, h and w must be fractions of the clip, at least 0 and below 1."
        )


@torch.no_grad()
def attention_rows(activation: BlockActivation, position: Position | None = None) -> list[AttentionMap]:
    """Compute an attention map for each position of a grid over the clip, with `GRID` positions along each axis.

    Args:
        activation: recorded input of a block with attention over positions.
        position: (t, h, w). A coordinate in [0, 1) is fixed; a coordinate that is None takes all values of the grid on
            its axis. `position=None` uses the whole grid.
    """
    block, x = activation.block, activation.x
    wanted = itertools.product(*(even_middles(GRID) if at is None else [at] for at in position or (None,) * 3))
    places = torch.tensor([[nearest_index(at, m) for at, m in zip(w, activation.middles, strict=True)] for w in wanted])
    places = places.unique(dim=0)
    by_head = block.attention(x, places.to(x.device))[0].float()  # heads q t h w
    weights = by_head.abs().mean(0)
    weights = (weights / weights.sum((1, 2, 3), keepdim=True).clamp_min(1e-12)).cpu()
    signs = by_head.mean(0).sign().cpu() if bool((by_head < 0).any()) else None
    entropies = entropy_bits(weights)
    keys = _key_middles(block, activation.middles)
    maps = []
    for i, place in enumerate(places.tolist()):
        t, h, w = (float(middles[at]) for at, middles in zip(place, activation.middles, strict=True))
        maps.append(
            AttentionMap(
                activation.name,
                (t, h, w),
                weights[i],
                float(entropies[i]),
                keys,
                None if signs is None else signs[i],
                _reach(block, place, weights.shape[1:]),
            )
        )
    return maps


def most_effective(activation: BlockActivation, position: Position = (None, None, None)) -> AttentionMap:
    """Compute the attention map of the position where the block has its largest effect on the score of a class.

    The effect at position i is |dy/dz_i . (z_i - x_i)|, for the block's input x and output z and the score y. To first
    order, this is how much the score would change if the block left x_i unchanged. `attention_maps` chooses by least
    entropy instead, but a position with low entropy may have no effect on the score.

    The block may have no effect at any position to choose from, for example if it is the identity, as at
    initialisation. Then the position with the least entropy is chosen, from the grid of `attention_rows`.

    Args:
        activation: recorded input of a block, with its `effect` on the score of a class.
        position: (t, h, w). A coordinate in [0, 1) is fixed; a coordinate that is None is chosen.
    """
    assert activation.effect is not None
    open_to_choice = [
        slice(None) if at is None else slice(i := nearest_index(at, middles), i + 1)
        for at, middles in zip(position, activation.middles, strict=True)
    ]
    effect = torch.full_like(activation.effect, -1.0)
    effect[tuple(open_to_choice)] = activation.effect[tuple(open_to_choice)]
    if float(effect.max()) <= 0:
        return min(attention_rows(activation, position), key=lambda each: each.entropy)
    best = np.unravel_index(int(effect.argmax()), tuple(effect.shape))
    t, h, w = (float(middles[at]) for at, middles in zip(best, activation.middles, strict=True))
    return attention_rows(activation, (t, h, w))[0]


def entropy_bits(weights: Float[Tensor, "q t h w"]) -> Float[Tensor, " q"]:
    """Compute the entropy in bits of each map. The weights of a map must sum to 1."""
    return torch.special.entr(weights).sum((1, 2, 3)) / np.log(2)


def _key_middles(block: Any, middles: Middles) -> Middles:
    """Return the middles of the keys in the clip. The middle of a pooled key is the mean over its pooling window."""
    windows = getattr(block, "key_pool", None) or (1, 1, 1)
    t, h, w = (
        each[: len(each) // window * window].reshape(-1, window).mean(1)
        for each, window in zip(middles, windows, strict=True)
    )
    return t, h, w


def _reach(block: Any, place: Sequence[int], size: Sequence[int]) -> Bool[Tensor, "t h w"] | None:
    """Return the mask of the keys that a position can attend to; None if it can attend to all.

    With scope "space", these are all keys of the position's time step. With scope "time", they are the keys at the
    position's (h, w) in all time steps. With criss-cross attention, they are on the lines through the position along t,
    h and w.

    Args:
        block: the inserted block.
        place: indices (t, h, w) of the position in the block's features.
        size: number of keys along t, h and w.
    """
    scope = getattr(block, "scope", "spacetime")
    lines = isinstance(block, CrissCrossAttention)
    if scope == "spacetime" and not lines:
        return None
    reach = torch.zeros(tuple(size), dtype=torch.bool)
    t, h, w = place
    if scope == "space":
        reach[t] = True
    if scope == "time" or lines:
        reach[:, h, w] = True
    if lines:
        reach[t, :, w] = reach[t, h] = True
    return reach


def draw_attention(
    frames: UInt8[np.ndarray, "t h w c"], maps: Sequence[AttentionMap], *, columns: int = 8, title: str = ""
) -> Figure:
    """Draw a row of frames for each map. Parts of the frames that get less attention are darker.

    A box marks the query position, in the drawn frame that is nearest to it in time.

    Args:
        frames: RGB frames of the clip.
        maps: attention maps to draw, at least one.
        columns: number of frames to show, evenly spaced.
        title: title above the rows.
    """
    t, height, width = frames.shape[:3]
    shown = np.unique(np.linspace(0, t - 1, min(columns, t)).round().astype(int))
    times = max(round(112 / height), 1)  # small frames are enlarged
    rows = []
    for each in maps:
        over = resample(each.weights.numpy(), each.middles, (t, height, width))[shown]
        pictures = overlay_heat(frames[shown], over / max(float(over.max()), 1e-12))
        pictures = pictures.repeat(times, 1).repeat(times, 2)
        draw_box(pictures[int(np.argmin(np.abs(shown + 0.5 - each.query[0] * t)))], each.query[1:])
        rows.append(np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255).swapaxes(0, 1))
    mosaic = np.concatenate([row.reshape(row.shape[0], -1, 3) for row in rows]).astype(np.uint8)
    figure = Figure(figsize=(mosaic.shape[1] / 90 + 0.9, mosaic.shape[0] / 90 + (0.4 if title else 0.1)))
    left, top = 0.9 / figure.get_figwidth(), 0.3 * bool(title) / figure.get_figheight()
    axes = figure.add_axes((left, 0, 1 - left, 1 - top))
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
        axes.set_title(drawable(title), fontsize=9, **draw_text(title))
    return figure
