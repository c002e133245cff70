"""Base class, with the interface of `PyAVVideo`, for videos that Pillow reads picture by picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import Float, Int, UInt8

from farfield.video.frame_conversion import RgbConverter


class PictureSequence(ABC):
    """A video whose frames are read one by one, in any order.

    Attributes:
        times: display time of each frame, in seconds after the first frame, ascending.
        name: name of the video for the log.
    """

    comment = ""
    pixel_aspect_ratio = Fraction(1)
    name = ""
    times: Float[np.ndarray, " frames"]

    @property
    @abstractmethod
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels."""

    @abstractmethod
    def _read_frame(self, place: int) -> VideoFrame:
        """Read the frame at index `place` of `times`."""

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decode the frames at `indices` (see `PyAVVideo.frames`)."""
        wanted, places = np.unique(indices, return_inverse=True)
        array = np.empty(0, np.uint8)
        for number, (_, picture) in enumerate(self.pictures(wanted, short_side_px)):
            if number == 0:
                array = np.empty((len(wanted), *picture.shape), np.uint8)
            array[number] = picture
        return array if np.array_equal(places, np.arange(len(wanted))) else array[places]

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        """Yield (place, frame) for each of the ascending `places` (see `PyAVVideo.pictures`)."""
        convert = self.to_rgb(short_side_px)
        for place in places.tolist():
            yield place, convert(self._frame(place))

    def walk(self, start: int, stop: int, *, both_fields: bool = False) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (place, frame) for each place in [start, stop) (see `PyAVVideo.walk`)."""
        for place in range(start, stop):
            yield place, self._frame(place)

    def to_rgb(self, short_side_px: int | None = None) -> RgbConverter:
        """Return a converter to RGB for this video's frames."""
        return RgbConverter(self.stored_size, short_side_px=short_side_px, name=self.name)

    def _frame(self, place: int) -> VideoFrame:
        if place >= len(self.times):
            raise ValueError(f"the video ends before frame {place}")
        return self._read_frame(place)
