"""Convert decoded frames to RGB arrays: upright, square pixels, one size, BT.709."""

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

log = logging.getLogger("farfield")

_WIDEST_PIXEL = 8
"""Largest plausible ratio of a pixel's sides; a larger ratio comes from a broken header."""

_ROUNDING = 0.01
"""Pixel aspect ratios that differ from 1 by less than this count as 1.

FFmpeg's scale filter writes such ratios when it rounds sizes.
"""


class RgbConverter:
    """Converter of one video's frames to RGB arrays of one size.

    Args:
        size: width and height in pixels of the video's first frame, as stored.
        pixel_aspect_ratio: width of a stored pixel over its height. The output has square pixels: it keeps the stored
            height and changes the width.
        short_side_px: downscale frames to this short side in pixels, keeping their aspect ratio, if the short side of
            the first frame is at least twice this length. None keeps the full size.
        tone_map: "auto" converts HDR frames to BT.709; "off" keeps the stored signal, which looks flat and grey.
        name: name of the video for the log.
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
        self._pixel_aspect = plausible_pixel_aspect(pixel_aspect_ratio)
        width, height = size[0] * self._pixel_aspect, float(size[1])
        short = min(width, height)
        factor = short_side_px / short if short_side_px and short >= 2 * short_side_px else 1.0
        self._size = max(round(width * factor), 1), max(round(height * factor), 1)
        self._tone_map = tone_map
        self._name = name
        self._rotation = 0
        self._orientation: Orientation | None = None
        self._reformatter = VideoReformatter()  # shared: making one takes longer than converting a small frame

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
        """Convert one frame; the result may be a view of the frame's memory.

        A frame that differs in size from the video's first frame is letterboxed to the size of the first.

        Raises:
            ValueError: if the frame is damaged.
        """
        if frame.is_corrupt:
            raise ValueError("a frame is damaged")
        if (frame.width, frame.height) == self._stored_size:
            picture = self._rgb(frame, *self._size)
        else:
            picture = self._letterboxed(frame)
        if self._tone_map == "auto" and is_hdr(frame.color_trc):
            picture = to_bt709(picture, frame.color_trc, frame.color_primaries)
        if self._orientation is None or frame.rotation != self._rotation:  # the matrix is slower to read
            self._rotation, self._orientation = frame.rotation, orientation_of(frame)
        return self._orientation.apply(picture)

    def _rgb(self, frame: VideoFrame, width: int, height: int) -> UInt8[np.ndarray, "h w c"]:
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        return rows.reshape(height, width, 3)

    def _letterboxed(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
        _warn_of_size_change(self._name, self._stored_size)
        width, height = self._size
        factor = min(width / (frame.width * self._pixel_aspect), height / frame.height)
        inner_width = min(max(round(frame.width * self._pixel_aspect * factor), 1), width)
        inner_height = min(max(round(frame.height * factor), 1), height)
        left, top = (width - inner_width) // 2, (height - inner_height) // 2
        picture = np.zeros((height, width, 3), np.uint8)
        picture[top : top + inner_height, left : left + inner_width] = self._rgb(frame, inner_width, inner_height)
        return picture


def plausible_pixel_aspect(pixel_aspect_ratio: Fraction | float) -> float:
    """Return the pixel aspect ratio as a number; 1 if it is implausible, or differs from 1 only by rounding."""
    aspect = float(pixel_aspect_ratio)
    if not 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL or abs(aspect - 1) < _ROUNDING:
        return 1.0
    return aspect


@lru_cache(maxsize=10_000)  # once per video and process
def _warn_of_size_change(name: str, size: tuple[int, int]) -> None:
    log.warning("%s: the frame size changes; frames that are not %d x %d are letterboxed to that size.", name, *size)
