"""Open a video: Pillow reads animated WebP and folders of numbered pictures; PyAV or decord reads all other videos.

PyAV decodes only the packets that the requested frames need (see `pyav_decoder.py`). If decord is requested, it reads
only those files for which it returns exactly the requested frames (see `decord_decoder.py`). All other files
are read as if decord had not been requested, and a warning is logged. Damaged files and files that cannot be opened
raise a `DecodeError` with the path and the reason. A video is opened in the process that uses it, with one thread, and
closed there.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from jaxtyping import Float, Int, UInt8

from farfield.errors import FarfieldError, VideoError, nearest
from farfield.video.decoder_names import Decoder, DecoderOption
from farfield.video.decord_exactness import DecordInexact
from farfield.video.deinterlacing import Deinterlace
from farfield.video.error_reason import reason_of
from farfield.video.frame_folder import FrameFolder
from farfield.video.frame_reader import open_reader
from farfield.video.tone_mapping import ToneMap

log = logging.getLogger("farfield")

av.logging.set_level(av.logging.PANIC)  # errors come as exceptions; FFmpeg's own log is noise


class DecodeError(VideoError):
    """A file, or a requested frame of it, cannot be decoded."""


class Video(Protocol):
    """Interface of an open video."""

    times: Float[np.ndarray, " frames"]
    """Display time of each frame, in seconds after the first frame, ascending."""

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decode the frames at `indices`, in that order, as upright RGB. An index may occur more than once.

        With `short_side_px`, the decoder may downscale frames to a short side of this many pixels, if their short side
        is at least twice as long. None keeps the full size.
        """

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        """Yield (place, frame) for each of the ascending `places`, in one pass that keeps few frames in memory.

        A place is an index into `times`.
        """

    def close(self) -> None: ...


class OpenVideo:
    """An open video. Any error of the decoder is raised as a `DecodeError` with the path.

    Attributes:
        times: display time of each frame, in seconds after the first frame, ascending.
        decoder: "decord" if decord reads the video, otherwise "pyav", even if Pillow reads it (animated WebP and
            folders of pictures).
        fallback_reason: why decord does not read the file although it was requested; None if decord reads the file or
            was not requested. Always None for a folder of pictures.
    """

    def __init__(self, path: Path, video: Video, decoder: Decoder, fallback_reason: str | None = None) -> None:
        self._path, self._video = path, video
        self.times = video.times
        self.decoder = decoder
        self.fallback_reason = fallback_reason

    def frames(self, indices: Int[np.ndarray, " t"], short_side_px: int | None = None) -> UInt8[np.ndarray, "t h w c"]:
        """Decode the frames at `indices` (see `Video.frames`)."""
        try:
            return self._video.frames(indices, short_side_px)
        except Exception as error:  # decord raises its own types, IndexError, OSError, ...
            raise self._error(error) from error

    def pictures(
        self, places: Int[np.ndarray, " t"], short_side_px: int | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w c"]]]:
        """Yield (place, frame) for each of `places` (see `Video.pictures`)."""
        try:
            yield from self._video.pictures(places, short_side_px)
        except Exception as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._video.close()

    def _error(self, error: Exception) -> DecodeError:
        reason = reason_of(error)
        if self.decoder == "decord":
            reason += " (reported by decord; try the decoder pyav)"
        return DecodeError(self._path, reason)


@contextmanager
def open_video(
    path: str | Path,
    decoder: Decoder = "pyav",
    *,
    deinterlace: Deinterlace = "auto",
    tone_map: ToneMap = "auto",
    fps: float | None = None,
) -> Iterator[OpenVideo]:
    """Open a video file, or a folder of numbered pictures (see `FrameFolder`), for the length of a `with` block.

    Args:
        path: video file, or folder of numbered pictures.
        decoder: "pyav" or "decord". With "decord", PyAV still reads the files for which decord would return wrong
            frames.
        deinterlace: "auto" deinterlaces frames that are marked as interlaced; "off" leaves them as they are.
        tone_map: "auto" converts HDR frames (HLG and PQ) to BT.709; "off" leaves them as they are.
        fps: frame rate of a folder of pictures, required for a folder; ignored for a file, which has its own times.

    Raises:
        DecodeError: if the file is missing, empty or cannot be opened; if a folder is not one sequence of pictures; or
            if `path` is a folder, but `fps` is None or not positive. Inside the block, `frames` and `pictures` raise it
            if a frame cannot be decoded.
        FarfieldError: if the decoder is unknown.
    """
    if decoder not in DECODERS:
        raise FarfieldError(f"decoder is {decoder!r}. {nearest(decoder, DECODERS)}")
    path = Path(path)
    is_folder = _check_path(path)
    try:
        if is_folder:
            video = OpenVideo(path, FrameFolder(path, fps), "pyav")
        else:
            video = DECODERS[decoder](path, deinterlace, tone_map)
    except Exception as error:  # av.FFmpegError, OSError, ValueError, MemoryError, and Pillow's
        raise DecodeError(path, reason_of(error)) from error
    try:
        yield video
    finally:
        video.close()


def _check_path(path: Path) -> bool:
    """Check that a path leads to a folder, or to a file that is not empty; return whether it is a folder."""
    try:
        if path.is_dir():
            return True
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from error
    if size is None:
        raise DecodeError(path, "it is not a regular file" if path.exists() else "there is no such file")
    if size == 0:
        raise DecodeError(path, "the file is empty")
    return False


def _open_with_pyav(path: Path, deinterlace: Deinterlace, tone_map: ToneMap) -> OpenVideo:
    return OpenVideo(path, open_reader(path, deinterlace=deinterlace, tone_map=tone_map), "pyav")


def _open_with_decord(path: Path, deinterlace: Deinterlace, tone_map: ToneMap) -> OpenVideo:
    """Open a file with decord, or with `open_reader` if decord would not return exactly the requested frames."""
    # Imported on first use: processes that only use PyAV save 5 MB and 50 ms.
    from farfield.video.decord_decoder import DecordVideo

    try:
        return OpenVideo(path, DecordVideo(path), "decord")
    except DecordInexact as error:
        reason = str(error)
    video = open_reader(path, deinterlace=deinterlace, tone_map=tone_map)
    _log_fallback(path, reason)
    return OpenVideo(path, video, "pyav", reason)


DECODERS: dict[Decoder, Callable[[Path, Deinterlace, ToneMap], OpenVideo]] = {
    "pyav": _open_with_pyav,
    "decord": _open_with_decord,
}

_fallbacks: defaultdict[str, set[Path]] = defaultdict(set)
"""Files that PyAV read instead of decord in this process, by reason."""


def _log_fallback(path: Path, reason: str) -> None:
    """Count the files that PyAV read instead of decord for this reason, and log the 1st, 10th, 100th and so on."""
    files = _fallbacks[reason]
    if path in files:
        return
    files.add(path)
    count = len(files)
    if count == 10 ** (len(str(count)) - 1):
        log.warning(
            "PyAV reads files on which decord would fail or return wrong frames: %s so far. Reason: %s. Latest file: "
            "%s",
            f"{count} file{'s' if count > 1 else ''}",
            reason,
            path,
        )


def current_name(decoder: DecoderOption) -> Decoder:
    """Return a decoder's current name; earlier versions spelled "pyav" as "PyAV"."""
    return "pyav" if decoder == "PyAV" else decoder
