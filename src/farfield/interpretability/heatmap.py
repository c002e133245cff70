"""Draw heat maps over frames: bright and orange where the heat is high, dark where it is low."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from farfield.fonts import pillow_font
from farfield.interpretability.block_activations import Middles, even_middles

GLOW = (255, 120, 0)
CYAN, GREY = (0, 255, 255), (150, 150, 150)
VIDEO_WIDTH = 320
"""Minimum width of a heat map video in pixels. Smaller clips are enlarged by an integer factor."""


def resample(
    values: Float[np.ndarray, "t h w"], middles: Middles, size: tuple[int, int, int]
) -> Float[np.ndarray, "t2 h2 w2"]:
    """Interpolate values linearly from a grid of positions to the pixels of a clip.

    Args:
        values: value of each position.
        middles: middles of the positions along t, h and w, as fractions of the clip in [0, 1). Before the first middle
            and after the last, values are constant.
        size: number of frames, height and width of the clip.
    """
    for axis, (given, wanted) in enumerate(zip(middles, size, strict=True)):
        shares = np.stack([np.interp(even_middles(wanted), given, unit) for unit in np.eye(len(given))], 1)
        values = np.moveaxis(np.tensordot(shares, values, (1, axis)), 0, axis)
    return values


def overlay_heat(
    frames: UInt8[np.ndarray, "t h w c"], heat: Float[np.ndarray, "t h w"]
) -> Float[np.ndarray, "t h w c"]:
    """Draw heat over frames: dark where the heat is 0, orange where it is 1. Pixels of the result are from 0 to 255.

    Args:
        frames: RGB frames.
        heat: heat in [0, 1].
    """
    over = heat[..., None]
    glow = 0.4 * np.clip((over - 0.35) / 0.65, 0, 1)
    return frames * (0.3 + 0.7 * over) * (1 - glow) + glow * np.array(GLOW)


def draw_box(picture: np.ndarray, place: tuple[float, float], colour: tuple[int, int, int] = CYAN) -> None:
    """Draw a square box into `picture`, in place. Its side is about 1/8 of the picture's height.

    Args:
        picture: picture (h w c) to draw into.
        place: centre (h, w) of the box, as fractions of the picture in [0, 1). A box that would cross the picture's
            border is moved inwards.
        colour: RGB colour of the box.
    """
    height, width = picture.shape[:2]
    half = max(height // 16, 3)
    y, x = (int(np.clip(at * size, half, size - 1 - half)) for at, size in zip(place, (height, width), strict=True))
    for outer, shade in ((half, (0, 0, 0)), (half - 1, colour)):
        box = picture[y - outer : y + outer + 1, x - outer : x + outer + 1]
        box[[0, -1]] = box[:, [0, -1]] = shade


def heat_video(
    frames: UInt8[np.ndarray, "t h w c"],
    heat: Float[np.ndarray, "t h w"],
    seconds: Sequence[float],
    *,
    query: tuple[float, float, float] | None = None,
) -> Iterator[UInt8[np.ndarray, "h2 w2 c"]]:
    """Yield the frames of a heat map video. Below each frame are its time and a bar chart of every frame's mean heat.

    Args:
        frames: RGB frames of the clip.
        heat: heat in [0, 1].
        seconds: time of each frame in seconds.
        query: position (t, h, w) to mark with a box, as fractions of the clip in [0, 1). The box is cyan in the frame
            at t, and grey in all others. None for no box.
    """
    factor = -(-VIDEO_WIDTH // frames.shape[2])
    pictures = overlay_heat(frames, heat)
    of_frame = heat.mean((1, 2)) / max(float(heat.mean((1, 2)).max()), 1e-12)
    own = -1 if query is None else min(int(query[0] * len(frames)), len(frames) - 1)
    for number, picture in enumerate(pictures.astype(np.uint8)):
        large = picture.repeat(factor, 0).repeat(factor, 1)
        if query is not None:
            draw_box(large, query[1:], CYAN if number == own else GREY)
        yield np.concatenate([large, _strip(large.shape[1], of_frame, number, own, seconds[number])])


def _strip(width: int, of_frame: np.ndarray, number: int, own: int, seconds: float) -> UInt8[np.ndarray, "h w c"]:
    size = max(width // 24, 12)
    height = 3 * size
    image = Image.new("RGB", (width, height), (16, 18, 24))
    draw = ImageDraw.Draw(image)
    step, left = (width - 6 * size) / len(of_frame), 6 * size
    for i, share in enumerate(of_frame):
        colour = GLOW if i == number else CYAN if i == own else (90, 90, 90)
        x = left + i * step
        draw.rectangle((x, height - 5 - share * (height - 10), x + max(step - 2, 1), height - 3), fill=colour)
    font, text = pillow_font(f"{seconds:.2f} s", size)
    draw.text((size // 2, height // 2), text, fill="white", font=font, anchor="lm")
    return np.asarray(image)
