"""Cropping and resizing of uint8 frames in the workers, so that workers send small batches."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from farfield.clip_spec import ResizeMethod

Frames = UInt8[Tensor, "t h w c"]
Box = tuple[int, int, int, int]
"""Top, left, height, width in pixels."""


def random_resized_box(height: int, width: int, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """Draw a crop with a random area and an aspect ratio from 3/4 to 4/3 (Szegedy et al., CVPR 2015).

    Args:
        height: height of the frame in pixels.
        width: width of the frame in pixels.
        scale: smallest and largest fraction of the frame's area.
        rng: random generator.
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
    """Draw a crop as in Wang et al., CVPR 2018: resize the short side to a random length, then cut out a square.

    This function only computes the box, in pixels of the original frame. Thus only the crop has to be resized.

    Args:
        height: height of the frame in pixels.
        width: width of the frame in pixels.
        size_px: height and width of the network's input.
        short_side_px: smallest and largest short side of the resized frame. The reciprocal of the length is drawn
            uniformly, as in the authors' code.
        rng: random generator.
    """
    short = min(height, width)
    length = 1 / rng.uniform(1 / short_side_px[1], 1 / short_side_px[0])
    side = min(max(round(short * size_px / length), 1), short)
    return int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side, side


def crop_and_resize(frames: Frames, box: Box, size_px: int) -> Frames:
    """Crop a box from every frame and resize it to a square of `size_px`, with antialiasing."""
    top, left, height, width = box
    return _resize(frames[:, top : top + height, left : left + width], size_px, size_px)


def resize_short_side(frames: Frames, short_side_px: int, method: ResizeMethod = "fast") -> Frames:
    """Resize frames so that the short side has `short_side_px` pixels, keeping the aspect ratio.

    Args:
        frames: frames to resize.
        short_side_px: length of the shorter side in pixels.
        method: how the length of the longer side is rounded, see `ClipSpec.resize`.
    """
    height, width = frames.shape[1:3]
    long, short = max(height, width), min(height, width)
    longer = long * short_side_px // short if method == "transformers" else round(long * (short_side_px / short))
    longer = max(longer, short_side_px)
    return _resize(frames, *((short_side_px, longer) if width >= height else (longer, short_side_px)))


def spread_crops(frames: Frames, size_px: int, num_crops: int, method: ResizeMethod = "fast") -> list[Frames]:
    """Cut square crops spread evenly along the longer side, centred along the shorter; a single crop is central.

    Args:
        frames: frames to cut from.
        size_px: height and width of the crops in pixels.
        num_crops: number of crops.
        method: how the offsets of the crops are rounded, see `ClipSpec.resize`.
    """
    to_pixels: Callable[[float], int] = math.floor if method == "transformers" else round
    height, width = frames.shape[1:3]
    fractions = np.linspace(0, 1, num_crops) if num_crops > 1 else np.array([0.5])
    crops = []
    for fraction in fractions:
        along_height, along_width = (fraction, 0.5) if height > width else (0.5, fraction)
        top, left = to_pixels((height - size_px) * along_height), to_pixels((width - size_px) * along_width)
        crops.append(frames[:, top : top + size_px, left : left + size_px])
    return crops


def _resize(frames: Frames, height: int, width: int) -> Frames:
    if frames.shape[1:3] == (height, width):
        return frames
    x = frames.permute(0, 3, 1, 2)  # in channels_last memory
    if len(x) == 1 and x.is_contiguous(memory_format=torch.channels_last):
        # The stride of an axis of size 1 does not matter, but `interpolate` tells the memory format from it.
        x = x.as_strided(x.shape, (x.numel(), *x.stride()[1:]))
    fast = _resizes_uint8_fast()
    y = F.interpolate(x if fast else x.float(), (height, width), mode="bilinear", antialias=True)
    return (y if fast else y.round_().to(torch.uint8)).permute(0, 2, 3, 1)


@cache
def _resizes_uint8_fast() -> bool:
    """Return whether PyTorch resizes uint8 images fast on this processor, by the rule in torchvision's `resize`.

    torchvision itself is not used here, because importing it takes longer than predicting a short video.
    """
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") or platform.machine() in ("aarch64", "arm64")
