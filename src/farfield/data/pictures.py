"""Decoded frames to RGB arrays: upright, of one size, reduced where they are much larger than is asked for."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import Int, UInt8


class ToRgb:
    """Converts frames of one video, all to the size of the first to come, whatever later ones have.

    Args:
        short_side_px: frames at least twice as large come reduced, with their aspect ratio, to a short side of so many
            pixels. None for frames as they are stored.
    """

    def __init__(self, short_side_px: int | None) -> None:
        self._short_side_px = short_side_px
        self._reformatter = VideoReformatter()  # one for all: making it takes longer than converting a small frame
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w c"]:
        """Returns one frame, often as a view of the decoder's memory.

        Raises:
            ValueError: for a damaged frame.
        """
        if frame.is_corrupt:
            raise ValueError("a frame is damaged")
        if self._size is None:
            short = min(frame.width, frame.height)
            factor = self._short_side_px / short if self._short_side_px and short >= 2 * self._short_side_px else 1.0
            self._size = max(round(frame.width * factor), 1), max(round(frame.height * factor), 1)
        width, height = self._size
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        return np.rot90(rows.reshape(height, width, 3), frame.rotation // 90)


class Pictures:
    """Frames that are asked for together, in one array.

    Args:
        stamps: what the frames are known by, one for each place in the array.
        short_side_px: see `ToRgb`.
    """

    def __init__(self, stamps: Int[np.ndarray, " t"], short_side_px: int | None) -> None:
        self._places = {int(stamp): place for place, stamp in enumerate(stamps)}
        self._convert = ToRgb(short_side_px)
        self.forget()

    def forget(self) -> None:
        self.missing = set(self._places)

    def put(self, stamp: int, frame: VideoFrame) -> None:
        picture = self._convert(frame)
        if len(self.missing) == len(self._places):
            self.array = np.empty((len(self._places), *picture.shape), np.uint8)
        self.array[self._places[stamp]] = picture
        self.missing.remove(stamp)
