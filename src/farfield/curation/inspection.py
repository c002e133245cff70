"""One video, looked at whole: whether every frame can be decoded, what it is, and what it looks like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from farfield.curation.transcode import frame_rate
from farfield.data.frame_sampling import ClipTooShort, stream_frames
from farfield.data.manifest import VideoRecord
from farfield.video.container import NoVideo
from farfield.video.decoders import DECODERS, DecodeError
from farfield.video.frame_conversion import RgbConverter
from farfield.video.frame_reader import FrameReader, open_reader
from farfield.video.pyav_decoder import reason_of

DecordSays = Literal["agrees", "differs", "cannot read it"]

THUMBNAILS, THUMBNAIL_PX = 8, 16


@dataclass(frozen=True)
class InspectionJob:
    """A video to look at.

    Attributes:
        path: the file.
        record: its row of the manifest.
        compare_decoders: whether to read some frames with decord, too.
    """

    path: Path
    record: VideoRecord
    compare_decoders: bool


@dataclass(frozen=True)
class Inspected:
    """What a video is.

    Attributes:
        num_frames: all of which could be decoded.
        fps: their average rate.
        width: in pixels.
        height: in pixels.
        duration_seconds: from the first frame's showing to the last one's end.
        sha256: of the file.
        thumbnails: of frames spread over the video, grey.
        decord: "agrees", "differs" or "cannot read it"; None where it was not asked.
    """

    num_frames: int
    fps: float
    width: int
    height: int
    duration_seconds: float
    sha256: str
    thumbnails: UInt8[np.ndarray, "8 16 16"]
    decord: DecordSays | None


def inspect(job: InspectionJob) -> Inspected:
    """Decodes a video from its first frame to its last.

    Raises:
        DecodeError: where that cannot be done, where the decoder had to patch up damage, which training would not
            notice, or where no frame lies in the row's segment.
    """
    try:
        if not job.path.is_file():
            raise DecodeError(job.path, "there is no such file")
        if not job.path.stat().st_size:
            raise DecodeError(job.path, "the file is empty")
        return _inspect(job)
    except DecodeError:
        raise
    except (NoVideo, ClipTooShort) as error:
        raise DecodeError(job.path, str(error)) from error
    except OSError as error:
        raise DecodeError(job.path, error.strerror or reason_of(error)) from error
    except Exception as error:  # whatever an odd file brings about: it must not end the run
        raise DecodeError(job.path, reason_of(error)) from error


def _inspect(job: InspectionJob) -> Inspected:
    with job.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    video = open_reader(job.path)
    try:
        stream_frames(video.times, start_seconds=job.record.start_seconds, end_seconds=job.record.end_seconds)
        with _errors_of_the_decoder() as errors:
            size, thumbnails = _walk(video)
        if errors:
            raise ValueError(f"it is damaged: {errors[0]}")
        times = video.times
    finally:
        video.close()
    expected = job.record.num_frames
    if expected is not None and expected != len(times):
        raise ValueError(f"it has {len(times)} frames, and the manifest says {expected}")
    duration = float(times[-1]) + 1 / float(frame_rate(times)[0])
    decord = compare_decoders(job.path) if job.compare_decoders else None
    return Inspected(len(times), round(len(times) / duration, 3), *size, round(duration, 3), digest, thumbnails, decord)


@contextmanager
def _errors_of_the_decoder() -> Iterator[list[str]]:
    """What the decoder reports and then patches up with pieces of other frames, without raising anything."""
    level, found = av.logging.get_level(), []  # type: ignore[var-annotated]
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as captured:
            yield found
    finally:
        av.logging.set_level(level)
        found += [f"[{name}] {message.strip()}" for _, name, message in captured]


def _walk(video: FrameReader) -> tuple[tuple[int, int], np.ndarray]:
    """Decodes all frames; returns width and height of the upright picture, and thumbnails."""
    count = len(video.times)
    wanted = ((np.arange(THUMBNAILS) + 0.5) * count / THUMBNAILS).astype(int)
    to_rgb: RgbConverter | None = None
    thumbnails = np.zeros((THUMBNAILS, THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    size = (0, 0)
    for place, frame in video.walk(0, count):
        if frame.is_corrupt:
            raise ValueError("a frame is damaged")
        to_rgb = to_rgb or video.to_rgb()
        if place == 0:
            height, width = to_rgb(frame).shape[:2]
            size = (width, height)
        for i in np.flatnonzero(wanted == place):
            thumbnails[i] = _thumbnail(to_rgb(frame))
    return size, thumbnails


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    grey = Image.fromarray(picture).convert("L")
    return np.asarray(grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def compare_decoders(path: Path) -> DecordSays:
    """Whether decord and PyAV give the same pictures at five places."""
    try:
        theirs = DECODERS["decord"](path)
        try:
            chosen = np.unique(np.linspace(0, len(theirs.times) - 1, 5).astype(int))
            pictures = theirs.frames(chosen).astype(int)
        finally:
            theirs.close()
    except Exception:  # decord raises its own, IndexError, OSError, ...: all mean that it cannot
        return "cannot read it"
    ours = DECODERS["PyAV"](path)
    try:
        if len(ours.times) != len(theirs.times):
            return "differs"
        expected = ours.frames(chosen).astype(int)
    finally:
        ours.close()
    # Decoders round differently from 10 bit; a neighbouring frame differs by far more where anything moves.
    same = expected.shape == pictures.shape and np.abs(expected - pictures).mean((1, 2, 3)).max() < 4
    return "agrees" if same else "differs"
