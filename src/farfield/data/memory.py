"""Decoded frames, kept: a small set of videos is decoded in the first epochs, and then read from memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from farfield.data.decode import Decoder, Video, open_video
from farfield.errors import VideoError


@dataclass
class _Kept:
    times: Float[np.ndarray, " frames"]
    pictures: dict[tuple[int | None, int], UInt8[np.ndarray, "h w c"]] = field(default_factory=dict)
    """By the short side that was asked for, and the place in `times`."""


class FrameMemory:
    """Opens videos as `open_video` does, and keeps what has been decoded, as long as there is room.

    Frames are the same as without it. Of a video, all that lies between the first and the last frame asked for is kept:
    the decoder passes through it anyhow, and the next clip begins elsewhere. What does not fit is decoded anew each
    time; nothing is given up for it, since an epoch asks for every video once.

    Args:
        num_bytes: room for pictures.
        decoder: of `open_video`.
    """

    def __init__(self, num_bytes: int, decoder: Decoder = "PyAV") -> None:
        self.bytes_left = num_bytes
        self._decoder: Decoder = decoder
        self._videos: dict[Path, _Kept] = {}

    @contextmanager
    def open(self, path: Path) -> Iterator[Video]:
        """Opens a video for the length of a `with` block; its file only where something of it is not here.

        Raises:
            DecodeError: as `open_video`.
        """
        if path not in self._videos:
            with open_video(path, self._decoder) as video:
                self._videos[path] = _Kept(video.times)
        yield _RememberedVideo(self, path, self._videos[path])

    def read(self, path: Path, kept: _Kept, indices: np.ndarray, short_side_px: int | None) -> np.ndarray:
        wanted = [(short_side_px, index) for index in indices.tolist()]
        missing = [index for side, index in wanted if (side, index) not in kept.pictures]
        if missing and not self._add(path, kept, min(missing), max(missing) + 1, short_side_px):
            with open_video(path, self._decoder) as video:
                return video.frames(indices, short_side_px)
        return np.stack([kept.pictures[key] for key in wanted])

    def _add(self, path: Path, kept: _Kept, start: int, stop: int, short_side_px: int | None) -> bool:
        """Decodes frames [start, stop) and keeps them; False where there is no room, or they cannot all be had."""
        if self.bytes_left <= 0:
            return False
        try:
            with open_video(path, self._decoder) as video:
                pictures = video.frames(np.arange(start, stop), short_side_px)
        except VideoError:  # perhaps of a frame that nobody asked for
            return False
        known = next((each for (side, _), each in kept.pictures.items() if side == short_side_px), pictures[0])
        if pictures.nbytes > self.bytes_left or pictures[0].shape != known.shape:
            return False
        self.bytes_left -= pictures.nbytes
        for index, picture in zip(range(start, stop), pictures, strict=True):
            kept.pictures.setdefault((short_side_px, index), picture)
        return True


class _RememberedVideo:
    def __init__(self, memory: FrameMemory, path: Path, kept: _Kept) -> None:
        self.times = kept.times
        self._memory, self._path, self._kept = memory, path, kept

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        return self._memory.read(self._path, self._kept, indices, short_side_px)

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        yield from zip(places.tolist(), self.frames(places, short_side_px), strict=True)

    def close(self) -> None:
        """Nothing is open."""
