"""Decoded frames, kept: a small set of videos is decoded in the first epochs, and then read from memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from farfield.errors import VideoError
from farfield.video.decoders import Decoder, Video, open_video
from farfield.video.deinterlacing import Deinterlace
from farfield.video.tone_mapping import ToneMap


@dataclass
class _Kept:
    times: Float[np.ndarray, " frames"]
    pictures: dict[tuple[int | None, int], UInt8[np.ndarray, "h w c"]] = field(default_factory=dict)
    """By the short side that was asked for, and the place in `times`."""


SPREAD = 8
"""Frames that are decoded along with one that is asked for, at most, since the next clip may ask for them."""


class FrameCache:
    """Opens videos as `open_video` does, and keeps what has been decoded, as long as there is room.

    Frames are the same as without it. From the second time on, what lies between the first and the last frame asked for
    is decoded, too, unless it is much more: the decoder passes through it anyhow, and the next clip begins elsewhere.
    What does not fit is decoded anew each time; nothing is given up for it, since an epoch asks for every video once.

    Args:
        num_bytes: room for pictures.
        decoder: of `open_video`, as the next two.
        deinterlace: see there.
        tone_map: see there.
    """

    def __init__(
        self,
        num_bytes: int,
        decoder: Decoder = "pyav",
        *,
        deinterlace: Deinterlace = "auto",
        tone_map: ToneMap = "auto",
    ) -> None:
        self.bytes_left = num_bytes
        self._open = partial(open_video, decoder=decoder, deinterlace=deinterlace, tone_map=tone_map)
        self._videos: dict[Path, _Kept] = {}
        self._picture_bytes = 0  # of the last that was kept

    @contextmanager
    def open(self, path: Path) -> Iterator[Video]:
        """Opens a video for the length of a `with` block; its file only where something of it is not here.

        Raises:
            DecodeError: as `open_video`.
        """
        if path not in self._videos:
            with self._open(path) as video:
                self._videos[path] = _Kept(video.times)
        yield _RememberedVideo(self, path, self._videos[path])

    def read(self, path: Path, kept: _Kept, indices: np.ndarray, short_side_px: int | None) -> np.ndarray:
        """The frames of an opened video, as `Video.frames` gives them."""
        wanted = [(short_side_px, index) for index in indices.tolist()]
        missing = sorted({index for side, index in wanted if (side, index) not in kept.pictures})
        if missing and not self._fetch(path, kept, missing, short_side_px):
            with self._open(path) as video:
                return video.frames(indices, short_side_px)
        return np.stack([kept.pictures[key] for key in wanted])

    def _fetch(self, path: Path, kept: _Kept, missing: list[int], short_side_px: int | None) -> bool:
        """Decodes and keeps what is missing, and what lies between; False where that cannot be."""
        known = next((each for (side, _), each in kept.pictures.items() if side == short_side_px), None)
        each_bytes = self._picture_bytes if known is None else known.nbytes
        if len(missing) * each_bytes > self.bytes_left:
            return False
        between = [i for i in range(missing[0], missing[-1] + 1) if (short_side_px, i) not in kept.pictures]
        all_fit = len(between) * each_bytes <= self.bytes_left and len(between) <= SPREAD * len(missing)
        chosen = between if known is not None and all_fit else missing
        try:
            with self._open(path) as video:
                pictures = video.frames(np.array(chosen), short_side_px)
        except VideoError:  # perhaps of a frame that nobody asked for
            return False
        if pictures.nbytes > self.bytes_left or (known is not None and pictures[0].shape != known.shape):
            return False
        self.bytes_left -= pictures.nbytes
        self._picture_bytes = pictures[0].nbytes
        kept.pictures |= {(short_side_px, index): picture for index, picture in zip(chosen, pictures, strict=True)}
        return True


class _RememberedVideo:
    def __init__(self, memory: FrameCache, path: Path, kept: _Kept) -> None:
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
