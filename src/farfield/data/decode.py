"""Video files to frames. The only file that imports a video decoder.

decord is the decoder. What it cannot open or read goes to PyAV, and what neither can is a `DecodeError` that
names the file and the reason. A video is opened in the process that uses it, with one thread.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import av
import decord
import numpy as np
from jaxtyping import Float, Int, UInt8

from farfield.errors import VideoError

VIDEO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".avi",
        ".flv",
        ".gif",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
    ]
)
"""What counts as a video when a folder is searched. A file that is named itself is always opened."""


class DecodeError(VideoError):
    """Neither decoder can read what was asked of a file."""


class Video(Protocol):
    """An open video."""

    times: Float[np.ndarray, " frames"]
    """When each frame is first shown, in seconds from the first, ascending."""

    def frames(self, indices: Int[np.ndarray, " t"]) -> UInt8[np.ndarray, "t h w c"]:
        """Decodes the frames at `indices`, in that order; an index may come more than once. RGB."""


def _warn_of_two_decords() -> None:
    found = []
    for name in ("decord", "decord2"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if len(found) == 2:
        warnings.warn(
            f"{' and '.join(found)} are both installed. They share one package folder, so that what is imported is a "
            "mix of the two. Mend it with: pip uninstall -y decord decord2 && pip install decord2",
            RuntimeWarning,
            stacklevel=2,
        )


_warn_of_two_decords()
decord.logging.set_level(decord.logging.FATAL)  # reasons travel in exceptions; FFmpeg's own chatter helps nobody
av.logging.set_level(av.logging.PANIC)


class _DecordVideo:
    def __init__(self, path: Path) -> None:
        self._reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        count = len(self._reader)
        if count == 0:
            raise ValueError("no frames")
        starts = np.asarray(self._reader.get_frame_timestamp(range(count)), dtype=np.float64)[:, 0]
        self.times = _ascending(starts, float(self._reader.get_avg_fps()))

    def frames(self, indices: Int[np.ndarray, " t"]) -> UInt8[np.ndarray, "t h w c"]:
        wanted, place = np.unique(indices, return_inverse=True)  # in order and once: one walk through the file
        return self._reader.get_batch(wanted.tolist()).asnumpy()[place]


class _PyAVVideo:
    """Reads a file from its start, counting frames, so that an index means the same frame as in decord."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stamps = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
            if not stamps:
                raise ValueError("no frames")
            rate = float(stream.average_rate or 25)
            self.times = _ascending(np.array(stamps, dtype=np.float64) * float(stream.time_base or 1 / rate), rate)

    def frames(self, indices: Int[np.ndarray, " t"]) -> UInt8[np.ndarray, "t h w c"]:
        wanted = set(indices.tolist())
        last, kept = max(wanted), {}
        with av.open(str(self._path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for number, frame in enumerate(container.decode(stream)):
                if number in wanted:
                    upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                    kept[number] = np.ascontiguousarray(upright)
                if number == last:
                    break
        if len(kept) < len(wanted):
            raise ValueError(f"it ends before frame {last}")
        return np.stack([kept[i] for i in indices.tolist()])


def _ascending(times: Float[np.ndarray, " frames"], fps: float) -> Float[np.ndarray, " frames"]:
    """Times from 0, or, where the container's make no sense, frames at a constant rate."""
    if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
        return np.arange(len(times)) / (fps if fps > 0 else 25.0)
    return times - times[0]


class _WithFallback:
    """decord as long as it can, then PyAV."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decord_reason = ""
        self._video: Video
        try:
            if not _decord_finds_frames_of(path):
                raise ValueError("it seeks to wrong frames in such files")
            self._video = _DecordVideo(path)
        except (av.FFmpegError, _NoVideo) as error:
            raise DecodeError(path, _first_line(error)) from error
        except Exception as error:  # decord raises its own, IndexError, OSError, ...: all mean that it cannot
            self._open_with_pyav(error)
        self.times = self._video.times

    def frames(self, indices: Int[np.ndarray, " t"]) -> UInt8[np.ndarray, "t h w c"]:
        if isinstance(self._video, _DecordVideo):
            try:
                return self._video.frames(indices)
            except Exception as error:
                self._open_with_pyav(error)
        try:
            return self._video.frames(indices)
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise DecodeError(self._path, self._reason(error)) from error

    def _open_with_pyav(self, error: Exception) -> None:
        self._decord_reason = _first_line(error)
        try:
            self._video = _PyAVVideo(self._path)
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise DecodeError(self._path, self._reason(error)) from error

    def _reason(self, error: Exception) -> str:
        return f"{_first_line(error)} (PyAV); {self._decord_reason} (decord)"


class _NoVideo(ValueError):
    pass


def _decord_finds_frames_of(path: Path) -> bool:
    """Whether decord's seeking is exact for a file's container and codec; asked of the header.

    Elsewhere (AVI, MPEG program and transport streams, WMV; MPEG-4 part 2 and MPEG-2 with B-frames in any container)
    it returns other frames than those that were asked for, and no error.
    """
    with av.open(str(path)) as container:
        formats = set(container.format.name.split(","))
        if not container.streams.video or formats & _STILL or any(name.endswith("_pipe") for name in formats):
            raise _NoVideo("it has no video stream")
        return bool(formats & _INDEXED) and container.streams.video[0].codec_context.name in _EXACT


_STILL = {"tty", "image2", "ansi", "bin", "xbin", "idf", "adf"}  # FFmpeg plays texts and pictures as videos, too
_INDEXED = {"mov", "mp4", "matroska", "webm", "flv", "gif"}
_EXACT = {"h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "mjpeg", "gif"}


@contextmanager
def open_video(path: str | Path) -> Iterator[Video]:
    """Opens a video file for the length of a `with` block.

    Raises:
        DecodeError: for a file that is missing, empty, or that no decoder can open, and inside the block from
            `frames`, for frames that no decoder can read.
    """
    path = Path(path)
    if not path.is_file():
        raise DecodeError(path, "there is no such file")
    if path.stat().st_size == 0:
        raise DecodeError(path, "the file is empty")
    yield _WithFallback(path)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    # decord puts times, source lines and the failed comparison before the reason, FFmpeg a number.
    return re.sub(r"^(.*\.cc:\d+: (Check failed: .*? \(.*? vs\. .*?\) )?|\[Errno \d+\] )", "", text)
