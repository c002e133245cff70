"""Animate the strongest connections of a non-local block over clips, as in the README.

farfield data synthesize recall data/recall --num_train 3000 --num_val 100 --num_test 400
farfield fit --config recall_tiny_nl2
python scripts/animate_attention.py data/recall/videos/test_0000{0,1,2}_*.mp4 \\
    --checkpoint runs/recall_tiny_nl2/checkpoints/last.ckpt --out docs/images/attention.webp

Each clip plays as a strip of frames. Then arrows grow from one position, the one whose block changes the class score
most, to the places that it attends to. Of the network's blocks, the one that looks farthest in time is shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image

from farfield.checkpoints.checkpoint import load_network
from farfield.interpretability.explanation import BlockExplanation, Explanation, explain_video
from farfield.interpretability.strongest_connections import shown_frames

WIDTH_PX, HEIGHT_PX, DPI = 640, 154, 100
COLUMNS, GAP = 7, 0.06
STRIP = 0.6
"""Height of the strip as a share of the picture."""
GROWTH_STEPS, HOLD_MS, STEP_MS, PLAY_MS = 8, 2600, 60, 160
FAINTEST = 0.01
"""Minimum weight of a drawn connection."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="a .webp or .gif file")
    arguments = parser.parse_args()
    network = load_network(arguments.checkpoint)
    pictures: list[np.ndarray] = []
    milliseconds: list[int] = []
    for path in arguments.clips:
        for picture, duration in animate(explain_video(path, network)):
            pictures.append(picture)
            milliseconds.append(duration)
    save(pictures, milliseconds, arguments.out)


def animate(explanation: Explanation) -> list[tuple[UInt8[np.ndarray, "h w c"], int]]:
    """Draw the pictures of one clip, each with its duration in milliseconds."""
    block = max(explanation.blocks, key=distance)
    shown = columns_of(explanation, block)
    steps = [(played, 0.0, PLAY_MS) for played in range(1, len(shown) + 1)]
    steps += [(len(shown), grown, STEP_MS) for grown in np.linspace(0, 1, GROWTH_STEPS + 1)]
    steps[-1] = (len(shown), 1.0, HOLD_MS)
    return [(draw(explanation, block, shown, played, grown), duration) for played, grown, duration in steps]


def distance(block: BlockExplanation) -> float:
    """Return the mean distance in time of the shown position's connections, as a share of the clip."""
    return sum(abs(each.weight) * abs(each.t - block.shown.query[0]) for each in block.connections)


def columns_of(explanation: Explanation, block: BlockExplanation) -> list[int]:
    """Return the numbers of the frames to show, in ascending order."""
    num_frames = len(explanation.frames)
    wanted = [block.shown.query[0], *(each.t for each in block.connections if abs(each.weight) >= FAINTEST)]
    return shown_frames(num_frames, [int(t * num_frames) for t in wanted], COLUMNS)


def draw(
    explanation: Explanation, block: BlockExplanation, shown: list[int], played: int, grown: float
) -> UInt8[np.ndarray, "h w c"]:
    """Draw one picture.

    Args:
        explanation: explanation of the clip.
        block: block to show.
        shown: numbers of the frames of the strip.
        played: number of frames that are visible; later ones are blank.
        grown: share of the arrows' length that is drawn, 0 for none.
    """
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI)
    width = COLUMNS * (1 + GAP) - GAP
    margin = 0.01
    axes = figure.add_axes((margin, 0.17, 1 - 2 * margin, STRIP))
    axes.set_xlim(0, width)
    axes.set_ylim((HEIGHT_PX * STRIP) / (WIDTH_PX * (1 - 2 * margin)) * width, 0)
    axes.axis("off")
    for column, number in enumerate(shown):
        left = column * (1 + GAP)
        if column < played:
            axes.imshow(
                explanation.frames[number], extent=(left, left + 1, 1, 0), interpolation="nearest", aspect="auto"
            )
        axes.add_patch(Rectangle((left, 0), 1, 1, fill=column >= played, facecolor="#f0f0f0", edgecolor="#bbbbbb"))
        axes.text(left + 0.5, -0.06, f"{explanation.seconds[number]:.2f} s", ha="center", fontsize=8, color="#555555")
    axes.set_xlim(0, width)
    axes.set_ylim((HEIGHT_PX * STRIP) / (WIDTH_PX * (1 - 2 * margin)) * width, 0)
    if grown > 0:
        draw_arrows(axes, block, shown, len(explanation.frames), grown)
        probability = float(explanation.views.video[explanation.labels.index(explanation.label)])
        text = f"block {block.shown.block}: what the position in the box attends to"
        figure.text(margin, 0.07, text, fontsize=9, color="#333333")
        if grown == 1:
            answer = f"prediction: {explanation.label}, {100 * probability:.0f}%"
            figure.text(1 - margin, 0.07, answer, ha="right", fontsize=9, weight="bold", color="#007a87")
    figure.text(margin, 0.92, "Do the first and the last cue have the same colour?", fontsize=9, color="#333333")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def draw_arrows(axes: Axes, block: BlockExplanation, shown: list[int], num_frames: int, grown: float) -> None:
    """Draw the box around the position, and the arrows to its connections, up to a share of their length."""

    def place(t: float, h: float, w: float) -> np.ndarray:
        column = int(np.argmin([abs(number - int(t * num_frames)) for number in shown]))
        return np.array([column * (1 + GAP) + w, h])

    start = place(*block.shown.query)
    for each in block.connections:
        end = start + grown * (place(each.t, each.h, each.w) - start)
        if abs(each.weight) < FAINTEST or np.abs(end - start).max() < 0.05:
            continue
        style: dict[str, Any] = {"color": "#e02010", "linewidth": 1 + 2 * abs(each.weight)}
        axes.add_patch(
            FancyArrowPatch(
                tuple(start), tuple(end), arrowstyle="-|>", mutation_scale=14, shrinkA=5, shrinkB=0, **style
            )
        )
    side = 0.2
    axes.add_patch(Rectangle(tuple(start - side / 2), side, side, fill=False, edgecolor="black", linewidth=3.2))
    axes.add_patch(Rectangle(tuple(start - side / 2), side, side, fill=False, edgecolor="cyan", linewidth=1.8))


def save(pictures: list[np.ndarray], milliseconds: list[int], out: Path) -> None:
    """Write an animation that repeats without end."""
    first, *rest = [Image.fromarray(each) for each in pictures]
    options: dict[str, Any] = {"quality": 80, "method": 6, "minimize_size": True} if out.suffix == ".webp" else {}
    first.save(out, save_all=True, append_images=rest, duration=milliseconds, loop=0, **options)


if __name__ == "__main__":
    main()
