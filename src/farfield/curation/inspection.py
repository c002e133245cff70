"""Inspect one video: decode every frame; return the video's length, size, content hash and thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from farfield.curation.transcode import frame_rate
from farfield.data.frame_sampling import ClipTooShort, stream_frames
from farfield.data.video_record import VideoRecord
from farfield.video.container import NotAVideo
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import DecodeError, open_video
from farfield.video.decord_exactness import DecordInexact
from farfield.video.error_reason import reason_of
from farfield.video.frame_folder import list_pictures
from farfield.video.frame_reader import FrameReader, open_reader

DecordSays = Literal["agrees", "differs", "cannot read it", "not compared"]

THUMBNAILS, THUMBNAIL_PX = 8, 16


@dataclass(frozen=True)
class InspectionJob:
    """A video to inspect.

    Attributes:
        path: video file, or folder of numbered pictures.
        rows: the video's rows in the manifests (one, or one for each segment), all with the same fps.
        compare_decoders: whether to decode some frames with both decord and PyAV, and compare them.
        decoder: decoder for all frames, see `open_video`.
    """

    path: Path
    rows: tuple[VideoRecord, ...]
    compare_decoders: bool
    decoder: Decoder = "pyav"

    @property
    def fps(self) -> float | None:
        """Frame rate of a folder of pictures, as in the manifest; None if the manifest has none."""
        return self.rows[0].fps


@dataclass(frozen=True)
class Inspected:
    """Properties of a video.

    Attributes:
        num_frames: number of frames, all of which could be decoded.
        fps: average frame rate.
        width: width in pixels.
        height: height in pixels.
        duration_seconds: time from the start of the first frame to the end of the last.
        sha256: content hash of the file, or of the pictures.
        thumbnails: grey thumbnails of 8 frames spread evenly over the video.
        decord: result of decoding some frames with decord and with PyAV and comparing them, see `compare_decoders`:
            "agrees", "differs", "cannot read it" or "not compared". None if the job does not ask for the comparison, or
            the video is a folder of pictures.
        not_compared_reason: why the attribute `decord` is "not compared"; None if it has another value.
        row_errors: for each row of the job, why it does not fit the video: a wrong number of frames, or a segment
            without frames; None for a row that fits.
        fallback_reason: why PyAV decoded the video, although the job's decoder was decord; None otherwise.
    """

    num_frames: int
    fps: float
    width: int
    height: int
    duration_seconds: float
    sha256: str
    thumbnails: UInt8[np.ndarray, "8 16 16"]
    decord: DecordSays | None
    row_errors: tuple[str | None, ...]
    fallback_reason: str | None = None
    not_compared_reason: str | None = None


def inspect(job: InspectionJob) -> Inspected:
    """Decode every frame of a video, and return the video's properties.

    With PyAV, decoding errors that FFmpeg only logs and conceals count as damage, although training would not fail on
    them. decord does not report such errors.

    Raises:
        DecodeError: if the file cannot be read, or if a frame is missing or damaged.
    """
    try:
        if not job.path.exists():
            raise DecodeError(job.path, "there is no such file")
        if job.path.is_file() and not job.path.stat().st_size:
            raise DecodeError(job.path, "the file is empty")
        return _inspect(job)
    except DecodeError:
        raise
    except NotAVideo as error:
        raise DecodeError(job.path, str(error)) from error
    except OSError as error:
        raise DecodeError(job.path, error.strerror or reason_of(error)) from error
    except Exception as error:  # of any type: one odd file must not end the run
        raise DecodeError(job.path, reason_of(error)) from error


def _inspect(job: InspectionJob) -> Inspected:
    digest = _content_hash(job.path)
    times, size, thumbnails, fallback_reason = _decode_all(job)
    duration = float(times[-1]) + 1 / float(frame_rate(times)[0])
    fps = job.fps if job.path.is_dir() and job.fps else round(len(times) / duration, 3)
    compared = job.compare_decoders and not job.path.is_dir()
    decord, reason = compare_decoders(job.path) if compared else (None, None)
    errors = tuple(_row_error(row, times) for row in job.rows)
    return Inspected(
        len(times), fps, *size, round(duration, 3), digest, thumbnails, decord, errors, fallback_reason, reason
    )


def _row_error(row: VideoRecord, times: np.ndarray) -> str | None:
    """Return why a row of a manifest does not fit its video; None if it fits."""
    if row.num_frames is not None and row.num_frames != len(times):
        return f"the video has {len(times)} frames, but the manifest says {row.num_frames}"
    try:
        stream_frames(times, start_seconds=row.start_seconds, end_seconds=row.end_seconds)
    except ClipTooShort as error:
        return str(error)
    return None


def _content_hash(path: Path) -> str:
    if path.is_dir():
        hashes = "".join(_content_hash(path / name) for name in list_pictures(path))
        return hashlib.sha256(hashes.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _decode_all(job: InspectionJob) -> tuple[np.ndarray, tuple[int, int], np.ndarray, str | None]:
    """Decode every frame of a video.

    Returns:
        Frame times in seconds; (width, height); thumbnails; and why PyAV decoded the video although the job's decoder
        is decord, or None.
    """
    fallback_reason = None
    if job.decoder == "decord" and not job.path.is_dir():
        try:
            return *_decode_all_with_decord(job), None
        except DecordInexact as error:
            fallback_reason = str(error)
    reader = open_reader(job.path, fps=job.fps)
    try:
        with _logged_errors() as errors:
            size, thumbnails = _size_and_thumbnails(_walk(reader), len(reader.times))
        if errors:
            raise ValueError(f"the video is damaged: {errors[0]}")
        return reader.times, size, thumbnails, fallback_reason
    finally:
        reader.close()


def _decode_all_with_decord(job: InspectionJob) -> tuple[np.ndarray, tuple[int, int], np.ndarray]:
    from farfield.video.decord_decoder import DecordVideo  # on first use, see `decoders`

    video = DecordVideo(job.path)
    try:
        frames = video.pictures(np.arange(len(video.times)))
        pictures = ((place, partial(np.asarray, frame)) for place, frame in frames)
        return video.times, *_size_and_thumbnails(pictures, len(video.times))
    finally:
        video.close()


@contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """Collect the errors that FFmpeg logs and conceals in the `with` block.

    Yields:
        List to which the errors are added at the end of the block.
    """
    level, found = av.logging.get_level(), []  # type: ignore[var-annotated]
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as captured:
            yield found
    finally:
        av.logging.set_level(level)
        found += [f"[{name}] {message.strip()}" for _, name, message in captured]


def _walk(video: FrameReader) -> Iterator[tuple[int, Callable[[], np.ndarray]]]:
    """Decode all frames; yield each frame's index, and a function that converts the frame to RGB."""
    convert = None
    for place, frame in video.walk(0, len(video.times)):
        if frame.is_corrupt:
            raise ValueError("a frame is damaged")
        convert = convert or video.to_rgb()
        yield place, partial(convert, frame)


def _size_and_thumbnails(
    pictures: Iterable[tuple[int, Callable[[], np.ndarray]]], count: int
) -> tuple[tuple[int, int], np.ndarray]:
    """Return (width, height) and thumbnails of a video, both for upright frames.

    `pictures` yields the frames of the video in the format of `_walk`, and `count` is their number.
    """
    wanted = ((np.arange(THUMBNAILS) + 0.5) * count / THUMBNAILS).astype(int)
    thumbnails = np.zeros((THUMBNAILS, THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    size = (0, 0)
    for place, picture in pictures:
        if place == 0:
            height, width = picture().shape[:2]
            size = (width, height)
        for i in np.flatnonzero(wanted == place):
            thumbnails[i] = _thumbnail(picture())
    return size, thumbnails


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    grey = Image.fromarray(picture).convert("L")
    return np.asarray(grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def compare_decoders(path: Path) -> tuple[DecordSays, str | None]:
    """Decode up to five frames of a video with decord and with PyAV, and compare them.

    Returns:
        (result, reason). The result is one of:

        - "agrees" or "differs";
        - "cannot read it": decord fails during decoding;
        - "not compared": farfield does not use decord for this file, because decord cannot open the file or would
          return wrong frames. The reason says which; it is None for other results.
    """
    from farfield.video.decord_decoder import DecordVideo  # on first use, see `decoders`

    try:
        theirs = DecordVideo(path)
        try:
            chosen = np.unique(np.linspace(0, len(theirs.times) - 1, 5).astype(int))
            pictures = theirs.frames(chosen).astype(int)
        finally:
            theirs.close()
    except DecordInexact as error:
        return "not compared", str(error)
    except Exception:  # of any of decord's own types
        return "cannot read it", None
    with open_video(path) as ours:
        if len(ours.times) != len(theirs.times):
            return "differs", None
        expected = ours.frames(chosen).astype(int)
    # The decoders round 10-bit video differently. A wrong frame differs by far more, unless the video is static.
    same = expected.shape == pictures.shape and np.abs(expected - pictures).mean((1, 2, 3)).max() < 4
    return ("agrees" if same else "differs"), None
