"""Task `recall`: decide whether an early cue and a late cue have the same colour.

A cue is a coloured shape that is shown briefly. The first cue is shown in one corner at the start of the video, the
second cue in the opposite corner at the end. Shapes are random and do not depend on the label. With
`attribute="shape"`, the label compares the shapes, and the colours are random.

Neither a single cue nor a linear classifier on features that are summed over all positions and frames can solve the
task. Let f be any feature of a cue, and let a and b be different colours. The sum of f over both cues is f(a) + f(a) in
the class "same", and f(a) + f(b) in the class "different". The colours are drawn such that this sum has the same mean
in both classes. Only a non-linear function of both cues together can solve the task.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from farfield.synthetic.canvas import Canvas, Colour, Point, textured_background

SIZE = 64
NUM_FRAMES = 32
FPS = 16
CUE_FRAMES = 4
LABELS = ["different", "same"]

COLOURS: tuple[Colour, ...] = ((0.9, 0.15, 0.15), (0.15, 0.8, 0.2), (0.2, 0.35, 0.95), (0.95, 0.85, 0.15))
SHAPES = ("disc", "square", "triangle", "bar")


def render(label: str, rng: np.random.Generator, *, attribute: str = "colour") -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Render the frames of one video.

    Args:
        label: "same" or "different".
        rng: random generator for all properties except the label.
        attribute: attribute that the label compares: "colour" or "shape".
    """
    first, other = rng.permutation(len(COLOURS))[:2]
    compared = (first, first if label == "same" else other)
    free = rng.integers(len(COLOURS), size=2)
    colours, shapes = (compared, free) if attribute == "colour" else (free, compared)
    corner = int(rng.integers(4))
    margin = 12 + rng.uniform(0, 6, (2, 2))
    places = [_corner(corner, margin[0]), _corner(3 - corner, margin[1])]
    background = textured_background(SIZE, SIZE, (0.5, 0.5, 0.5), 0.12, rng)
    noise = rng.normal(0, 0.03, (NUM_FRAMES, SIZE, SIZE, 1))
    for number in range(NUM_FRAMES):
        canvas = Canvas(background + noise[number])
        for cue, shown in enumerate((number < CUE_FRAMES, number >= NUM_FRAMES - CUE_FRAMES)):
            if shown:
                _draw(canvas, SHAPES[shapes[cue]], places[cue], COLOURS[colours[cue]])
        yield canvas.frame()


def _corner(number: int, margin: np.ndarray) -> Point:
    x, y = float(margin[0]), float(margin[1])
    return (x if number % 2 == 0 else SIZE - x), (y if number < 2 else SIZE - y)


def _draw(canvas: Canvas, shape: str, place: Point, colour: Colour) -> None:
    x, y = place
    if shape == "disc":
        canvas.capsule(place, place, 7, colour)
    elif shape == "square":
        canvas.polygon([(x - 6, y - 6), (x + 6, y - 6), (x + 6, y + 6), (x - 6, y + 6)], colour)
    elif shape == "triangle":
        canvas.polygon([(x, y - 8), (x + 8, y + 6), (x - 8, y + 6)], colour)
    else:
        canvas.capsule((x - 6, y + 4), (x + 6, y - 4), 3, colour)
