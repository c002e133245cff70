"""Decode with decord; refuse files for which decord would return wrong frames (see `decord_exactness.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from farfield.video.decord_exactness import DecordInexact, check_decord_is_exact
from farfield.video.decord_library import decord

_FRAMES_PER_BATCH = 64
"""Number of frames that `pictures` decodes at a time."""


class DecordVideo:
    """A video opened with decord, with the interface of `decoders.Video`; `close` it after use.

    Raises:
        DecordInexact: if decord would not return exactly the requested frames, or cannot open the file.
        av.FFmpegError, ValueError: if PyAV cannot open the file. PyAV is needed to check decord: it reads the file's
            packet index.
    """

    def __init__(self, path: Path) -> None:
        index = check_decord_is_exact(path)
        try:
            self._reader = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1)
        except Exception as error:  # of several types: DECORDError, RuntimeError, AssertionError
            raise DecordInexact("decord cannot open the file") from error
        if len(self._reader) != len(index.stamps):
            raise DecordInexact("frames that are never shown")
        self.times: Float[np.ndarray, " frames"] = index.seconds

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decode the frames at `indices`, in that order, as upright RGB at full size; `short_side_px` is ignored."""
        wanted, place = np.unique(indices, return_inverse=True)  # ascending and once: a single pass through the file
        return self._reader.get_batch(wanted.tolist()).asnumpy()[place]

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        """Yield (place, frame) for each of the ascending `places`, which are indices into `times`, in one pass."""
        for start in range(0, len(places), _FRAMES_PER_BATCH):
            batch = places[start : start + _FRAMES_PER_BATCH]
            yield from zip(batch.tolist(), self.frames(batch), strict=True)

    def close(self) -> None:
        vars(self).pop("_reader", None)
