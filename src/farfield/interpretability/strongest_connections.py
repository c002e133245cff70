"""Draw the strongest connections of a position as arrows over the frames.

The drawing follows figure 3 of Wang et al., "Non-local Neural Networks", CVPR 2018. Each arrow goes from the query
position to a place that it attends to, in the same or another frame. The paper shows the 20 arrows of highest weight.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from farfield.errors import FarfieldError
from farfield.fonts import draw_text, drawable
from farfield.interpretability.attention_maps import AttentionMap
from farfield.interpretability.attention_spread import is_uniform

FRAME_INCHES = 1.55
LABEL_INCHES = 1.25
GAP = 0.04
"""Gap between frames, as a share of a frame's width."""
FULL = 8
"""An arrow has full width only if its weight is at least this many times the uniform weight; others are thinner."""
FAINTEST = 0.01
"""Minimum weight of a drawn connection, as a share of the weight of the strongest connection."""


@dataclass(frozen=True)
class Connection:
    """A place that the query position attends to.

    Attributes:
        t, h, w: middle of the place in the clip, in [0, 1).
        weight: share of the query position's attention that the place gets; negative if the attention weight is
            negative.
    """

    t: float
    h: float
    w: float
    weight: float


def strongest_connections(attention: AttentionMap, count: int) -> list[Connection]:
    """Return the `count` places with the largest absolute attention weights, largest first.

    Places with weight 0 are omitted, so the list can be shorter.

    Raises:
        FarfieldError: if count is below 1.
    """
    if count < 1:
        raise FarfieldError(f"count is {count}; it must be at least 1. The non-local paper shows 20.")
    best = attention.weights.flatten().topk(min(count, attention.weights.numel()))
    found = []
    for weight, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        if weight <= 0:
            break
        place = np.unravel_index(index, tuple(attention.weights.shape))
        t, h, w = (float(middles[at]) for middles, at in zip(attention.middles, place, strict=True))
        sign = 1.0 if attention.signs is None else float(attention.signs.flatten()[index])
        found.append(Connection(t, h, w, -weight if sign < 0 else weight))
    return found


def draw_connections(
    frames: UInt8[np.ndarray, "t h w c"],
    maps: Sequence[AttentionMap],
    *,
    count: int = 20,
    columns: int = 8,
    seconds: Sequence[float] | None = None,
    title: str = "",
    unchanged: Collection[str] = (),
) -> Figure:
    """Draw a row of frames for each map, with arrows from the query position to its strongest connections.

    A box marks the query position. Thicker and redder arrows have a larger share of the attention, and dashed arrows
    have a negative weight. A ring without an arrow means that the position attends to itself. A connection is drawn
    only if it has at least a hundredth of the strongest connection's weight. Uniform attention has no arrows, and the
    picture says so.

    About three quarters of the columns, at most, show the query position's frame and the frames that get the most
    attention. Each remaining column shows the frame that is farthest in time from all frames chosen before it. A place
    in a frame that is not shown is drawn in the nearest shown frame.

    Args:
        frames: RGB frames of the clip.
        maps: attention maps to draw, at least one.
        count: maximum number of arrows for each map.
        columns: number of frames to show.
        seconds: time of each frame in seconds; None to number the frames.
        title: title above the rows.
        unchanged: names of the blocks that return their input unchanged. Their rows say so.

    Raises:
        FarfieldError: if count is below 1.
    """
    num_frames, height, width = frames.shape[:3]
    found = [
        [] if is_uniform(each) else [c for c in strongest if abs(c.weight) >= FAINTEST * abs(strongest[0].weight)]
        for each, strongest in ((each, strongest_connections(each, count)) for each in maps)
    ]
    inches = FRAME_INCHES * height / width
    top = 0.35 if title else 0.05
    columns = min(columns, num_frames)
    size = (LABEL_INCHES + columns * (1 + GAP) * FRAME_INCHES + 0.05, top + len(maps) * (inches + 0.3))
    figure = Figure(figsize=size)
    for row, (each, connections) in enumerate(zip(maps, found, strict=True)):
        own = _frame(each.query[0], num_frames)
        wanted: dict[int, float] = {}
        for connection in connections:
            number = _frame(connection.t, num_frames)
            wanted[number] = wanted.get(number, 0) + abs(connection.weight)
        shown = shown_frames(num_frames, [own, *sorted(wanted, key=lambda n: -wanted[n])], columns)
        bottom = size[1] - top - (row + 1) * (inches + 0.3) + 0.03
        area = (LABEL_INCHES / size[0], bottom / size[1], 1 - (LABEL_INCHES + 0.05) / size[0], inches / size[1])
        axes = figure.add_axes(area)
        _draw_frames(axes, frames, shown, own, seconds)
        _draw_arrows(axes, each, connections, shown, num_frames, height / width)
        label = f"{each.block}\n{each.entropy:.1f} bits of {np.log2(max(each.keys, 1)):.1f}"
        if connections:
            label += f"\nstrongest {100 * abs(connections[0].weight):.1f}%"
        axes.text(-0.03, 0.5 * height / width, label, ha="right", va="center", fontsize=9, parse_math=False)
        notes = ["uniform attention: no arrows are drawn"] if is_uniform(each) else []
        if each.block.partition(",")[0] in unchanged:  # "res4[1], 3 passes" is a map of res4[1]
            notes.append("this block returns its input unchanged: its attention has no effect")
        if notes:
            _draw_note(axes, "\n".join(notes), (columns * (1 + GAP) / 2, 0.93 * height / width))
    if title:
        place = (0.5, 1 - 0.06 / size[1])
        figure.text(*place, drawable(title), ha="center", va="top", fontsize=11, **draw_text(title))
    return figure


def shown_frames(num_frames: int, wanted: Iterable[int], columns: int) -> list[int]:
    """Choose the frames to show, and return them in ascending order.

    Up to about three quarters of the columns show the most important frames. Each remaining column shows the frame that
    is farthest from all frames chosen before it.

    Args:
        num_frames: number of frames of the clip.
        wanted: frame numbers, the most important first; at least one.
        columns: number of frames to show.
    """
    columns = min(columns, num_frames)
    chosen = list(dict.fromkeys(wanted))[: max(1, round(columns * 0.75))]
    while len(chosen) < columns:  # the frame that is farthest from all chosen ones
        distances = [min(abs(number - other) for other in chosen) for number in range(num_frames)]
        chosen.append(int(np.argmax(distances)))
    return sorted(chosen)


def _frame(t: float, num_frames: int) -> int:
    return min(int(t * num_frames), num_frames - 1)


def _draw_frames(
    axes: Axes, frames: np.ndarray, shown: Sequence[int], own: int, seconds: Sequence[float] | None
) -> None:
    """Draw frames side by side, each of width 1, with (0, 0) at the top left.

    Args:
        axes: axes to draw on.
        frames: RGB frames of the clip.
        shown: numbers of the frames to draw.
        own: number of the query position's frame, which gets a bold title.
        seconds: time of each frame in seconds, shown as the frame's title. None shows the frame's number instead.
    """
    height = frames.shape[1] / frames.shape[2]
    for column, number in enumerate(shown):
        left = column * (1 + GAP)
        axes.imshow(frames[number], extent=(left, left + 1, height, 0), interpolation="nearest")
        text = f"frame {number}" if seconds is None else f"{seconds[number]:.2f} s"
        colour = "#007a87" if number == own else "#444444"
        weight = "bold" if number == own else "normal"
        axes.text(left + 0.5, -0.02, text, ha="center", va="bottom", fontsize=8.5, color=colour, weight=weight)
    axes.set_xlim(0, len(shown) * (1 + GAP))
    axes.set_ylim(height, 0)
    axes.axis("off")


def _draw_note(axes: Axes, text: str, place: tuple[float, float]) -> None:
    """Write a text on a light box over the frames and arrows. `place` is the middle of the box's lower edge."""
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "#b00020", "alpha": 0.92}
    axes.text(*place, text, ha="center", va="bottom", fontsize=10, color="#b00020", bbox=box, zorder=200)


def _draw_arrows(
    axes: Axes,
    attention: AttentionMap,
    connections: Sequence[Connection],
    shown: Sequence[int],
    num_frames: int,
    height: float,
) -> None:
    def place(t: float, h: float, w: float) -> tuple[float, float]:
        column = int(np.argmin([abs(number - _frame(t, num_frames)) for number in shown]))
        return column * (1 + GAP) + w, h * height

    start = place(*attention.query)
    largest = max((abs(each.weight) for each in connections), default=1.0)
    largest = max(largest, FULL / attention.keys)
    outline: Any = [patheffects.withStroke(linewidth=2.2, foreground="black", alpha=0.45)]
    for order, each in enumerate(reversed(connections)):  # the strongest is drawn on top
        share = abs(each.weight) / largest
        colour = colormaps["autumn_r"](0.15 + 0.85 * share)
        end = place(each.t, each.h, each.w)
        axes.plot(
            *end,
            marker="o",
            color=colour,
            markersize=4 + 4 * share,
            markeredgewidth=1 + share,
            fillstyle="none",
            zorder=3 + order,
        )
        if abs(end[0] - start[0]) + abs(end[1] - start[1]) < 0.02:
            continue
        arrow = FancyArrowPatch(
            start,
            end,
            arrowstyle=f"-|>,head_length={2.5 + 2.5 * share:.2f},head_width={1.2 + 1.3 * share:.2f}",
            connectionstyle=f"arc3,rad={_bend(start, end, height):.4f}",
            linewidth=0.7 + 2 * share,
            linestyle="--" if each.weight < 0 else "-",
            color=colour,
            alpha=0.35 + 0.6 * share,
            shrinkA=3,
            shrinkB=2,
            zorder=3 + order,
        )
        if share > 0.5:
            arrow.set_path_effects([patheffects.withStroke(linewidth=2 + 2 * share, foreground="black", alpha=0.4)])
        axes.add_patch(arrow)
    side = 0.12
    box = Rectangle((start[0] - side / 2, start[1] - side / 2), side, side, fill=False, edgecolor="cyan", linewidth=1.6)
    box.set_path_effects(outline)
    box.set_zorder(100)
    axes.add_patch(box)


def _bend(start: tuple[float, float], end: tuple[float, float], height: float) -> float:
    """Return an arrow's curvature, as `rad` of Matplotlib's connection style "arc3".

    The arrow bends to the side with more room, and stays within its row of frames.

    Args:
        start: (x, y) of the arrow's start. The unit of all lengths is the width of a frame, and y grows downwards.
        end: (x, y) of the arrow's end.
        height: height of the row of frames.
    """
    middle = (start[1] + end[1]) / 2
    down = middle < height / 2
    room = (height - middle if down else middle) / max(abs(end[0] - start[0]), 1e-6)
    size = min(0.12, 1.6 * room)  # an arc's height is half of its curvature times its length
    return size if down == (end[0] >= start[0]) else -size
