"""Draw the parts of a block that an attention map does not show: gates, channel attention, object regions.

For criss-cross attention, compute the attention map after all passes. By type of block:

    coordinate attention   gates along t, h and w, drawn as curves. No position attends to another, so there is no map.
    dual attention         channel attention: the weight of channel d in the output of channel c
    object context         soft object regions, and the weight of each region in a position's output
    criss-cross            attention after all passes. In one pass, a position attends only to the lines through it.

Criss-cross attention with R passes has attention matrices A_1 .. A_R (n x n for n positions, never built). After all
passes, position i attends to j with weight (A_R ... A_1)_ij. This is the probability that a random walk of R steps from
i ends at j. The residual connections of the passes are not included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from farfield.fonts import draw_text, drawable
from farfield.interpretability.attention_maps import AttentionMap, entropy_bits
from farfield.interpretability.block_activations import BlockActivation, nearest_index
from farfield.interpretability.heatmap import overlay_heat, resample
from farfield.layers import CoordinateAttention, CrissCrossAttention, DualAttention, ObjectContext
from farfield.layers.criss_cross import line_affinities
from farfield.layers.dual_attention import channel_attention
from farfield.layers.positions import to_rows

REGIONS = 4
"""Maximum number of object regions drawn for a block. The regions with the largest shares are drawn."""


def missing_map_reason(activation: BlockActivation) -> str | None:
    """Return a one-line reason why a block has no attention map over positions; None if it has such a map."""
    if hasattr(activation.block, "attention"):
        return None
    if isinstance(activation.block, CoordinateAttention):
        return f"{activation.name}: coordinate attention has gates along t, h and w, and no attention map."
    return f"{activation.name}: {type(activation.block).__name__} does not give attention maps."


@torch.no_grad()
def attention_after_all_passes(activation: BlockActivation, attention: AttentionMap) -> AttentionMap | None:
    """Compute the attention map of a position after all passes of criss-cross attention.

    Args:
        activation: recorded input of the block.
        attention: attention map of the position in the last pass.

    Returns:
        The attention map, whose `block` is the block's name with the number of passes, such as "res4[1], 3 passes".
        None if the block is not criss-cross attention or has only one pass.
    """
    block: Any = activation.block
    if not isinstance(block, CrissCrossAttention) or block.passes < 2:
        return None
    inputs: list[Tensor] = []
    hook = block.query.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        block(activation.x)
    finally:
        hook.remove()
    sizes = activation.x.shape[2:]
    at = tuple(nearest_index(q, middles) for q, middles in zip(attention.query, activation.middles, strict=True))
    here = activation.x.new_zeros(tuple(sizes))
    here[at] = 1
    for x in reversed(inputs):  # the last pass is the first step
        lines = line_affinities(block.query(x).movedim(1, -1), block.key(x).movedim(1, -1))[0].softmax(-1)
        ahead = torch.zeros_like(here)
        for axis, along in enumerate(lines.split(list(sizes), dim=-1)):
            # along[..., j] is the share of the position on this line whose coordinate on the axis is j.
            ahead += (here.unsqueeze(-1) * along).sum(axis).movedim(-1, axis)
        here = ahead
    weights = (here / here.sum()).float().cpu()
    return replace(
        attention,
        block=f"{attention.block}, {block.passes} passes",
        weights=weights,
        entropy=float(entropy_bits(weights[None])[0]),
        places=activation.middles,
        reach=None,
    )


@dataclass(frozen=True)
class Region:
    """A soft object region of an `ObjectContext` block.

    Attributes:
        name: class name of the region; "region N" if regions do not correspond to classes.
        weights: weight of each position in the region. The weights sum to 1.
        share: attention weight of the region for a query position; the shares of all regions sum to 1.
    """

    name: str
    weights: Float[Tensor, "t h w"]
    share: float


@torch.no_grad()
def object_regions(
    activation: BlockActivation, query: tuple[float, float, float], labels: Sequence[str]
) -> list[Region]:
    """Return the object regions that a position attends to most, by descending share. There are at most `REGIONS`.

    The list is empty if the block is not an `ObjectContext`.

    Args:
        activation: recorded input of the block.
        query: the position, (t, h, w) in the clip, each in [0, 1).
        labels: class names. They also name the regions if the numbers of regions and classes are equal.
    """
    block: Any = activation.block
    if not isinstance(block, ObjectContext):
        return []
    masks = block.regions(activation.x)[0].flatten(1).softmax(-1)
    found = (masks @ to_rows(activation.x)[0]).T[None]  # 1 c k
    place = tuple(nearest_index(at, middles) for at, middles in zip(query, activation.middles, strict=True))
    phi = block.phi(activation.x)[(0, slice(None), *place)]
    shares = (block.scale * (phi @ block.psi(found)[0])).softmax(-1)
    named = len(labels) == len(masks)
    return [
        Region(
            labels[i] if named else f"region {i}",
            masks[i].unflatten(0, activation.x.shape[2:]).float().cpu(),
            float(shares[i]),
        )
        for i in shares.topk(min(REGIONS, len(shares))).indices.tolist()
    ]


@torch.no_grad()
def draw_component(
    activation: BlockActivation,
    frames: UInt8[np.ndarray, "t h w c"],
    query: tuple[float, float, float],
    labels: Sequence[str],
) -> tuple[str, Figure] | None:
    """Draw a block's gates, channel attention or object regions, which an attention map does not show.

    Args:
        activation: recorded input of the block.
        frames: RGB frames of the clip.
        query: position for which the shares of the object regions are shown, (t, h, w), each in [0, 1).
        labels: class names.

    Returns:
        A caption and the figure; None if the block has no gates, channel attention or object regions.
    """
    block: Any = activation.block
    if isinstance(block, CoordinateAttention):
        caption = "gates of coordinate attention: mean and interquartile range over channels"
        return f"{activation.name}: {caption}", _draw_gates(
            [g[0].float().cpu().numpy() for g in block.gates(activation.x)]
        )
    if isinstance(block, DualAttention):
        weights = channel_attention(to_rows(activation.x))[0].float().cpu().numpy()
        caption = "channel attention: the weight of each source channel (column) in each target channel (row)"
        return f"{activation.name}: {caption}", _draw_channels(weights)
    found = object_regions(activation, query, labels)
    if found:
        caption = "soft object regions, and the share of each in the attention of the query position"
        return f"{activation.name}: {caption}", _draw_regions(found, activation, frames)
    return None


def _draw_gates(gates: Sequence[np.ndarray]) -> Figure:
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    for axes, axis, gate in zip(figure.subplots(1, len(gates), sharey=True), "thw", gates, strict=True):
        at = np.arange(gate.shape[1])
        low, high = np.quantile(gate, (0.25, 0.75), axis=0)
        axes.fill_between(at, low, high, alpha=0.25, lw=0)
        axes.plot(at, gate.mean(0), ".-")
        axes.set_xlabel({"t": "t, steps of the block", "h": "h, from the top", "w": "w, from the left"}[axis])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("gate")
    figure.axes[0].set_ylim(0, 1)
    return figure


def _draw_channels(weights: np.ndarray) -> Figure:
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0, interpolation="nearest")
    axes.set_xlabel("source channel")
    axes.set_ylabel("target channel")
    figure.colorbar(image, ax=axes, shrink=0.85, label="share")
    return figure


def _draw_regions(found: Sequence[Region], activation: BlockActivation, frames: np.ndarray) -> Figure:
    count, height, width = frames.shape[:3]
    shown = np.unique(np.linspace(0, count - 1, min(8, count)).round().astype(int))
    inches = 1.3 * height / width
    figure = Figure(figsize=(1.9 + 1.33 * len(shown), 0.1 + len(found) * (inches + 0.06)))
    for row, each in enumerate(found):
        heat = resample(each.weights.numpy(), activation.middles, (count, height, width))[shown]
        pictures = overlay_heat(frames[shown], heat / max(float(heat.max()), 1e-12)).astype(np.uint8)
        strip = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=255).swapaxes(0, 1)
        total = figure.get_figwidth(), figure.get_figheight()
        bottom = 1 - (0.05 + (row + 1) * (inches + 0.06)) / total[1]
        axes = figure.add_axes((1.85 / total[0], bottom, 1 - 1.9 / total[0], inches / total[1]))
        axes.imshow(strip.reshape(strip.shape[0], -1, 3), aspect="auto", interpolation="nearest")
        axes.axis("off")
        name = each.name if len(each.name) <= 20 else each.name[:19] + "…"
        axes.text(
            -0.01,
            0.5,
            f"{drawable(name)}\n{100 * each.share:.0f}%",
            transform=axes.transAxes,
            ha="right",
            va="center",
            fontsize=9,
            **draw_text(name),
        )
    return figure
