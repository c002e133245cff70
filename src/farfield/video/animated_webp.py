"""Read animated WebP with Pillow, since FFmpeg cannot read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import Float
from PIL import Image

from farfield.video.container import NotAVideo, Source, independent_source
from farfield.video.frame_times import browser_delays
from farfield.video.picture_sequence import PictureSequence


def is_webp(source: Source) -> bool:
    """Return whether a file, given by its path or as an open binary file, begins with a WebP header."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(12)
    else:
        source.seek(0)
        head = source.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


class AnimatedWebP(PictureSequence):
    """An open WebP animation, with the interface of `PyAVVideo`; `close` it after use.

    Raises:
        NotAVideo: if the file holds a single picture.
        OSError, ValueError: if the file is damaged.
    """

    def __init__(self, source: Source) -> None:
        self._image: Any = Image.open(independent_source(source))
        try:
            num_frames = getattr(self._image, "n_frames", 1)
            if num_frames < 2:
                raise NotAVideo("the file is a single picture, not a video")
            delays = [self._delay_seconds(place) for place in range(num_frames)]
        except BaseException:
            self.close()
            raise
        shown = browser_delays(np.array(delays))
        self.times: Float[np.ndarray, " frames"] = np.concatenate([[0.0], np.cumsum(shown[:-1])])

    def _delay_seconds(self, place: int) -> float:
        self._image.seek(place)
        self._image.load()
        return float(self._image.info.get("duration", 0)) / 1000

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._image.size

    def close(self) -> None:
        """Close the file."""
        self._image.close()

    def _read_frame(self, place: int) -> VideoFrame:
        self._image.seek(place)
        return VideoFrame.from_ndarray(np.asarray(self._image.convert("RGB")), format="rgb24")
