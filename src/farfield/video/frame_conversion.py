"""Decoded frames to RGB arrays: upright, with square pixels, of one size, in BT.709."""

from __future__ import annotations

import logging
from fractions import Fraction
from functools import lru_cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from farfield.video.orientation import Orientation, orientation_of
from farfield.video.tone_mapping import ToneMap, is_hdr, to_bt709

log = logging.getLogger(__name__)

_WIDEST_PIXEL = 8
"""Pixels this many times as wide as high, or as high as wide, are a broken header, not a format."""

_ROUNDING = 0.01
"""FFmpeg's scale filter sets an aspect ratio of nearly 1 where it rounds a size to even numbers."""


class RgbConverter:
    """Converts frames of one video, all to one size.

    Args:
        size: width and height in pixels of the video's first frame, as it is stored.
        pixel_aspect_ratio: width of a stored pixel over its height; pictures come with square pixels, as players
            show them: as high as they are stored, and wider or narrower.
        short_side_px: frames at least twice as large come reduced, with their aspect ratio, to a short side of so many
            pixels. None for the full size.
        tone_map: "auto" converts HDR pictures to BT.709; "off" leaves them flat and grey, as they are stored.
        name: of the video, for the log.
    """

    def __init__(
        self,
        size: tuple[int, int],
        pixel_aspect_ratio: Fraction = Fraction(1),
        short_side_px: int | None = None,
        *,
        tone_map: ToneMap = "auto",
        name: str = "a video",
    ) -> None:
        self._stored_size = size
        self._pixel_aspect = sane_aspect(pixel_aspect_ratio)
        width, height = size[0] * self._pixel_aspect, float(size[1])
        short = min(width, height)
        factor = short_side_px / short if short_side_px and short >= 2 * short_side_px else 1.0
        self._size = max(round(width * factor), 1), max(round(height * factor), 1)
        self._tone_map = tone_map
        self._name = name
        self._rotation = 0
        self._orientation: Orientation | None = None
        self._reformatter = VideoReformatter()  # one for all: making it takes longer than converting a small frame

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
        """Returns one frame, often as a view of the decoder's memory.

        A frame of another size than the first is fitted into the first one's with its aspect ratio, between black bars.

        Raises:
            ValueError: for a damaged frame.
        """
        if frame.is_corrupt:
            raise ValueError("a frame is damaged")
        if (frame.width, frame.height) == self._stored_size:
            picture = self._rgb(frame, *self._size)
        else:
            picture = self._fitted(frame)
        if self._tone_map == "auto" and is_hdr(frame.color_trc):
            picture = to_bt709(picture, frame.color_trc, frame.color_primaries)
        if self._orientation is None or frame.rotation != self._rotation:  # reading the matrix takes longer than asking
            self._rotation, self._orientation = frame.rotation, orientation_of(frame)
        return self._orientation.apply(picture)

    def _rgb(self, frame: VideoFrame, width: int, height: int) -> UInt8[np.ndarray, "h w c"]:
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        return rows.reshape(height, width, 3)

    def _fitted(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
        _say_that_size_changes(self._name, self._stored_size)
        width, height = self._size
        factor = min(width / (frame.width * self._pixel_aspect), height / frame.height)
        inner_width = min(max(round(frame.width * self._pixel_aspect * factor), 1), width)
        inner_height = min(max(round(frame.height * factor), 1), height)
        left, top = (width - inner_width) // 2, (height - inner_height) // 2
        picture = np.zeros((height, width, 3), np.uint8)
        picture[top : top + inner_height, left : left + inner_width] = self._rgb(frame, inner_width, inner_height)
        return picture


def sane_aspect(pixel_aspect_ratio: Fraction | float) -> float:
    """The aspect ratio of pixels as a number; 1 for one that no format has, and for one that is 1 but for rounding."""
    aspect = float(pixel_aspect_ratio)
    if not 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL or abs(aspect - 1) < _ROUNDING:
        return 1.0
    return aspect


@lru_cache(maxsize=10_000)  # once a video and process
def _say_that_size_changes(name: str, size: tuple[int, int]) -> None:
    log.warning(
        "%s: its pictures change size; those that are not %d x %d are fitted into it, between black bars.", name, *size
    )
