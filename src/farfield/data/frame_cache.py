"""Cache of decoded frames, so that a small data set is decoded in the first epochs only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from farfield.errors import VideoError
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import Video, open_video
from farfield.video.deinterlacing import Deinterlace
from farfield.video.tone_mapping import ToneMap


@dataclass
class _CachedVideo:
    """Times and cached frames of one video."""

    times: Float[np.ndarray, " frames"]
    fps: float | None
    frames: dict[tuple[int | None, int], UInt8[np.ndarray, "h w c"]] = field(default_factory=dict)
    """Cached frames, by (requested short side in pixels, index in `times`)."""


SPREAD = 8
"""Maximum of (frames to decode) / (missing frames), where missing frames are requested frames that are not cached.

Frames between missing frames are decoded, too, and cached for later clips, unless this would exceed the maximum.
"""


class FrameCache:
    """Cache of decoded frames with a fixed capacity; opens videos like `open_video`.

    Frames are the same as without a cache. The first request for a video decodes the requested frames only. A later
    request decodes the missing frames, that is, the requested frames that are not cached. It also decodes and caches
    the frames between the missing ones, since the decoder reads past them anyway, and later clips may need them. There
    are two conditions for this:
    - The number of frames to decode is then at most `SPREAD` times the number of missing frames.
    - All frames to decode then fit into the cache.

    If the missing frames do not fit into the cache, all requested frames are decoded, and none is added to the cache.
    Nothing is evicted, since an epoch uses each video once.

    Args:
        num_bytes: capacity for frames, in bytes.
        decoder: see `open_video`.
        deinterlace: see `open_video`.
        tone_map: see `open_video`.
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
        self._videos: dict[Path, _CachedVideo] = {}
        self._frame_bytes = 0  # size of the last frame that was cached

    @contextmanager
    def open(self, path: Path, *, fps: float | None = None) -> Iterator[Video]:
        """Open a video for a `with` block.

        After the first call for a video, its file is opened only to decode frames that are not cached.

        Args:
            path: video file, or folder of numbered pictures.
            fps: frame rate of a folder of pictures, see `open_video`.

        Raises:
            DecodeError: see `open_video`.
        """
        if path not in self._videos:
            with self._open(path, fps=fps) as video:
                self._videos[path] = _CachedVideo(video.times, fps)
        yield _CacheReader(self, path, self._videos[path])

    def read(self, path: Path, cached: _CachedVideo, indices: np.ndarray, short_side_px: int | None) -> np.ndarray:
        """Return the same frames of a video as `Video.frames`, taken from the cache where possible, else decoded."""
        wanted = [(short_side_px, index) for index in indices.tolist()]
        missing = sorted({index for side, index in wanted if (side, index) not in cached.frames})
        if missing and not self._decode(path, cached, missing, short_side_px):
            with self._open(path, fps=cached.fps) as video:
                return video.frames(indices, short_side_px)
        return np.stack([cached.frames[key] for key in wanted])

    def _decode(self, path: Path, cached: _CachedVideo, missing: list[int], short_side_px: int | None) -> bool:
        """Decode and cache the missing frames and, as described in `FrameCache`, the frames between them.

        Returns:
            Whether the missing frames are in the cache now. False if they do not fit into it, or if decoding fails.
        """
        known = next((each for (side, _), each in cached.frames.items() if side == short_side_px), None)
        each_bytes = self._frame_bytes if known is None else known.nbytes
        if len(missing) * each_bytes > self.bytes_left:
            return False
        between = [i for i in range(missing[0], missing[-1] + 1) if (short_side_px, i) not in cached.frames]
        all_fit = len(between) * each_bytes <= self.bytes_left and len(between) <= SPREAD * len(missing)
        chosen = between if known is not None and all_fit else missing
        try:
            with self._open(path, fps=cached.fps) as video:
                frames = video.frames(np.array(chosen), short_side_px)
        except VideoError:  # possibly of a frame between the requested ones
            return False
        if frames.nbytes > self.bytes_left or (known is not None and frames[0].shape != known.shape):
            return False
        self.bytes_left -= frames.nbytes
        self._frame_bytes = frames[0].nbytes
        cached.frames |= {(short_side_px, index): frame for index, frame in zip(chosen, frames, strict=True)}
        return True


class _CacheReader:
    """A `Video` that takes frames from a `FrameCache`, which decodes the missing ones."""

    def __init__(self, cache: FrameCache, path: Path, cached: _CachedVideo) -> None:
        self.times = cached.times
        self._cache, self._path, self._cached = cache, path, cached

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        return self._cache.read(self._path, self._cached, indices, short_side_px)

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        yield from zip(places.tolist(), self.frames(places, short_side_px), strict=True)

    def close(self) -> None:
        """Do nothing: no file stays open."""
