"""Read animated WebP with Pillow, since FFmpeg cannot read it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import Float, Int, UInt8
from PIL import Image

from farfield.video.container import NotAVideo, Source, independent_source
from farfield.video.frame_conversion import RgbConverter
from farfield.video.frame_times import browser_delays


def is_webp(source: Source) -> bool:
    """Return whether a file, or its content, begins with a WebP header."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(12)
    else:
        source.seek(0)
        head = source.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


class AnimatedWebP:
    """An open WebP animation, with the interface of `PyAVVideo`; `close` it after use.

    Raises:
        NotAVideo: if the file holds a single picture.
        OSError, ValueError: if the file is damaged.
    """

    comment = ""
    pixel_aspect_ratio = Fraction(1)

    def __init__(self, source: Source) -> None:
        self._image: Any = Image.open(independent_source(source))
        try:
            num_frames = getattr(self._image, "n_frames", 1)
            if num_frames < 2:
                raise NotAVideo("it is a single picture, not a video")
            delays = [self._delay_seconds(place) for place in range(num_frames)]
        except BaseException:
            self.close()
            raise
        self.stored_size = self._image.size
        shown = browser_delays(np.array(delays))
        self.times: Float[np.ndarray, " frames"] = np.concatenate([[0.0], np.cumsum(shown[:-1])])

    def _delay_seconds(self, place: int) -> float:
        self._image.seek(place)
        self._image.load()
        return float(self._image.info.get("duration", 0)) / 1000

    def close(self) -> None:
        self._image.close()

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decode the frames at `indices` (see `PyAVVideo.frames`)."""
        wanted, places = np.unique(indices, return_inverse=True)
        return np.stack([picture for _, picture in self.pictures(wanted, short_side_px)])[places]

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
        return RgbConverter(self.stored_size, short_side_px=short_side_px)

    def _frame(self, place: int) -> VideoFrame:
        if place >= len(self.times):
            raise ValueError(f"it ends before frame {place}")
        self._image.seek(place)
        return VideoFrame.from_ndarray(np.asarray(self._image.convert("RGB")), format="rgb24")
