"""Cropping and resizing in the worker, on uint8 frames, so that little leaves it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

Frames = UInt8[Tensor, "t h w c"]
Box = tuple[int, int, int, int]
"""top, left, height, width in pixels."""


def random_resized_box(height: int, width: int, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """Draws a crop: its area a fraction of the frame's, its aspect ratio 3/4 to 4/3 (Szegedy et al., CVPR 2015).

    Args:
        height: the frame's, in pixels.
        width: the frame's, in pixels.
        scale: smallest and largest fraction of the frame's area.
        rng: where the draw comes from.
    """
    area = height * width * rng.uniform(*scale)
    ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    crop_width = min(max(round(math.sqrt(area * ratio)), 1), width)
    crop_height = min(max(round(math.sqrt(area / ratio)), 1), height)
    return (
        int(rng.integers(height - crop_height + 1)),
        int(rng.integers(width - crop_width + 1)),
        crop_height,
        crop_width,
    )


def random_square(
    height: int, width: int, size_px: int, short_side_px: tuple[int, int], rng: np.random.Generator
) -> Box:
    """Draws a crop as the paper does: the short side resized to a random length, a square of `size_px` cut out.

    Returned in pixels of the frame as it is, so that what is cut off is never resized.

    Args:
        height: the frame's, in pixels.
        width: the frame's, in pixels.
        size_px: height and width of the network's input.
        short_side_px: smallest and largest length that the short side is resized to. The reciprocal of the length is
            drawn uniformly, as in the authors' code.
        rng: where the draw comes from.
    """
    short = min(height, width)
    length = 1 / rng.uniform(1 / short_side_px[1], 1 / short_side_px[0])
    side = min(max(round(short * size_px / length), 1), short)
    return int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side, side


def crop_and_resize(frames: Frames, box: Box, size_px: int) -> Frames:
    """Cuts a box out of every frame and resizes it to a square, with antialiasing."""
    top, left, height, width = box
    return _resize(frames[:, top : top + height, left : left + width], size_px, size_px)


def resize_short_side(frames: Frames, short_side_px: int) -> Frames:
    """Resizes so that the short side has a length, keeping the aspect ratio."""
    height, width = frames.shape[1:3]
    factor = short_side_px / min(height, width)
    return _resize(frames, max(round(height * factor), short_side_px), max(round(width * factor), short_side_px))


def spread_crops(frames: Frames, size_px: int, num_crops: int) -> list[Frames]:
    """Square crops spread evenly along the longer side, central along the other; a single one is the centre."""
    height, width = frames.shape[1:3]
    fractions = np.linspace(0, 1, num_crops) if num_crops > 1 else np.array([0.5])
    crops = []
    for fraction in fractions:
        along_height, along_width = (fraction, 0.5) if height > width else (0.5, fraction)
        top, left = round((height - size_px) * along_height), round((width - size_px) * along_width)
        crops.append(frames[:, top : top + size_px, left : left + size_px])
    return crops


def _resize(frames: Frames, height: int, width: int) -> Frames:
    if frames.shape[1:3] == (height, width):
        return frames
    # t h w c seen as t c h w is channels_last memory, which torchvision resizes without leaving uint8.
    return tv.resize(frames.permute(0, 3, 1, 2), [height, width], antialias=True).permute(0, 2, 3, 1)
