"""Encode numbered videos in any codec, container and size."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from conftest import numbered_frame


def encode(
    path: Path,
    codec: str = "libx264",
    *,
    num_frames: int = 40,
    fps: int = 25,
    times: Iterable[float] | None = None,
    size: tuple[int, int] = (192, 96),
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    b_frames: int | None = 2,
    rotation: int = 0,
    numbers: Iterable[int] | None = None,
    **options: str,
) -> Path:
    """Write frames that show their number.

    Args:
        path: file to write; its suffix chooses the container.
        codec: FFmpeg's name of the encoder.
        num_frames: number of frames.
        fps: frames per second.
        times: display times in seconds, for a variable rate.
        size: width and height in pixels.
        pix_fmt: pixel format.
        gop: keyframe interval.
        b_frames: largest run of B-frames; None for encoders that take no such option.
        rotation: degrees counter-clockwise by which players rotate the picture.
        numbers: number that each frame shows; None for 0, 1, 2, ...
        options: further options of the encoder.
    """
    quality = {"g": str(gop)} | ({"crf": "20"} if codec.startswith("lib") else {"qmin": "1", "qmax": "3"})
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options=quality | options)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if rotation:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this release of PyAV writes no rotation")
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        moments = None if times is None else list(times)
        for place, number in enumerate(range(num_frames) if numbers is None else numbers):
            height = size[1] - size[1] % 2  # the number is readable in a frame one row less, too
            picture = np.zeros((size[1], size[0], 3), np.uint8)
            scaled = numbered_frame(number).repeat(height // 48, axis=0).repeat(size[0] // 96, axis=1)
            picture[: scaled.shape[0], : scaled.shape[1]] = scaled
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if moments is not None:
                frame.pts, frame.time_base = round(moments[place] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
