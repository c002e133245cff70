"""Heat over frames: the more of it a place has, the lighter and the more orange it is."""

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
"""Smaller clips are enlarged by a whole factor to at least this many pixels."""


def resample(
    values: Float[np.ndarray, "t h w"], middles: Middles, size: tuple[int, int, int]
) -> Float[np.ndarray, "t2 h2 w2"]:
    """Values at the middles of some positions, between them by lines, at the middles of the pixels of a clip.

    Args:
        values: a value for each position.
        middles: where the positions lie; beyond the first and the last the value stays.
        size: frames, height and width of the clip.
    """
    for axis, (given, wanted) in enumerate(zip(middles, size, strict=True)):
        shares = np.stack([np.interp(even_middles(wanted), given, unit) for unit in np.eye(len(given))], 1)
        values = np.moveaxis(np.tensordot(shares, values, (1, axis)), 0, axis)
    return values


def heated(frames: UInt8[np.ndarray, "t h w c"], heat: Float[np.ndarray, "t h w"]) -> Float[np.ndarray, "t h w c"]:
    """Frames, dark where there is no heat and aglow where there is most, in 0 to 255.

    Args:
        frames: RGB.
        heat: in [0, 1].
    """
    over = heat[..., None]
    glow = 0.4 * np.clip((over - 0.35) / 0.65, 0, 1)
    return frames * (0.3 + 0.7 * over) * (1 - glow) + glow * np.array(GLOW)


def draw_box(picture: np.ndarray, place: tuple[float, float], colour: tuple[int, int, int] = CYAN) -> None:
    """A frame of an eighth of the picture's height around a place (h, w) in [0, 1), in the picture itself."""
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
    """The frames of a video of the heat, each above its time and above a curve of how much heat each frame has.

    Args:
        frames: the clip.
        heat: in [0, 1].
        seconds: when each frame is shown.
        query: a position (t, h, w) to put a box around: cyan in its frame, grey in the others.
    """
    factor = -(-VIDEO_WIDTH // frames.shape[2])
    pictures = heated(frames, heat)
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
