"""Transcode one video to H.264 that training can read fast, see `Encoding`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from farfield.curation.encoding import Encoding
from farfield.data.frame_sampling import ClipTooShort, stream_frames
from farfield.errors import FarfieldError
from farfield.video.decoders import DecodeError
from farfield.video.deinterlacing import Deinterlace
from farfield.video.error_reason import reason_of
from farfield.video.frame_conversion import RgbConverter, plausible_pixel_aspect
from farfield.video.frame_folder import pictures_bytes
from farfield.video.frame_reader import FrameReader, open_reader
from farfield.video.frame_times import SHORTEST_STEP
from farfield.video.orientation import UPRIGHT, orientation_of
from farfield.video.tone_mapping import is_hdr


@dataclass(frozen=True)
class Transcoded:
    """Properties of a transcoded video.

    Attributes:
        num_frames: number of frames written.
        fps: average frame rate.
        width: width in pixels.
        height: height in pixels.
        duration_seconds: time from the start of the first frame to the end of the last.
        source_bytes: size of the source file, or of all pictures of a folder; 0 if unknown.
        bytes: size of the written file.
    """

    num_frames: int
    fps: float
    width: int
    height: int
    duration_seconds: float
    source_bytes: int
    bytes: int


def transcode(
    source: Path | BinaryIO,
    target: Path,
    encoding: Encoding,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    fps: float | None = None,
    name: str | None = None,
    comment: str = "",
) -> Transcoded:
    """Write a video, or its segment [start_seconds, end_seconds), as H.264 in MP4, atomically.

    Frames are turned upright, deinterlaced if they are marked as interlaced, converted to BT.709 if they are HDR,
    scaled to square pixels, and stored as 8-bit 4:2:0. `encoding` can turn deinterlacing and HDR conversion off, and
    limits the short side. A constant frame rate stays constant; at a variable rate each frame keeps its time. Sound is
    dropped, and the MP4 file's index is placed before the frames.

    Args:
        source: file, a stream of its content, or a folder of numbered pictures.
        target: file to write; its folder must exist.
        encoding: settings of the encoder.
        start_seconds: start of the segment; None for the start of the video.
        end_seconds: end of the segment; None for the end of the video.
        fps: frame rate of a folder of pictures; ignored for other sources.
        name: name of the video in messages; None for the source's path. Give it for a stream, which has no path.
        comment: text for the file's metadata; `probe` returns it.

    Raises:
        DecodeError: if a frame of the segment cannot be decoded or encoded, or if no frame lies in the segment.
        FarfieldError: if the target cannot be written.
    """
    name = name or str(source)
    # A hash, since the target's name may be as long as the file system allows.
    digest = hashlib.sha256(target.name.encode(errors="surrogateescape")).hexdigest()[:12]
    partial = target.with_name(f"{digest}.{os.getpid()}.partial")
    try:
        deinterlace: Deinterlace = "off" if encoding.deinterlace == "off" else "auto"
        video = open_reader(source, name=name, deinterlace=deinterlace, tone_map=encoding.tone_map, fps=fps)
    except Exception as error:
        raise DecodeError(name, reason_of(error)) from error
    try:
        chosen = stream_frames(video.times, start_seconds=start_seconds, end_seconds=end_seconds)
        frames = _read(video, chosen, name, both_fields=encoding.deinterlace == "fields")
        try:
            with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                container.metadata["comment"] = comment
                written = _encode(container, frames, video, video.times[chosen], encoding)
            made, _, times = _probe(partial)
            if made.num_frames != len(written):
                raise DecodeError(name, f"only {made.num_frames} of {len(written)} frames were written")
            if np.abs(times - written).max() > 2e-3:
                raise DecodeError(
                    name, "the frame times of the transcoded copy differ from the video's, so the copy was discarded"
                )
            partial.replace(target)
        except OSError as error:  # of the target; errors of the source are DecodeErrors
            raise FarfieldError(f"{target} cannot be written: {error.strerror or error}.") from error
    except ClipTooShort as error:
        raise DecodeError(name, str(error)) from error
    except FarfieldError:
        raise
    except (av.FFmpegError, ValueError, ArithmeticError, MemoryError) as error:  # from the encoder: odd sizes, rates
        raise DecodeError(name, f"the video cannot be encoded: {reason_of(error)}") from error
    finally:
        video.close()
        partial.unlink(missing_ok=True)
    return replace(made, source_bytes=source_size(source))


def source_size(source: Path | BinaryIO) -> int:
    """Return the size in bytes of a video file, of a stream, or of the pictures of a folder.

    Raises:
        OSError, ValueError: if the file or the pictures cannot be accessed.
    """
    if not isinstance(source, Path):
        return source.seek(0, os.SEEK_END)
    return pictures_bytes(source) if source.is_dir() else source.stat().st_size


def probe(path: Path) -> tuple[Transcoded, str]:
    """Return the properties of a transcoded file and its comment. `source_bytes` is 0, as the source is not known.

    Raises:
        DecodeError: if the file cannot be opened.
    """
    made, comment, _ = _probe(path)
    return made, comment


def _probe(path: Path) -> tuple[Transcoded, str, np.ndarray]:
    """Return the properties of a file, its comment, and its frame times in seconds."""
    try:
        video = open_reader(path)
    except Exception as error:
        raise DecodeError(path, reason_of(error)) from error
    times, size, comment = video.times, video.stored_size, video.comment
    video.close()
    duration = float(times[-1]) + 1 / float(frame_rate(times)[0])
    made = Transcoded(len(times), round(len(times) / duration, 3), *size, round(duration, 3), 0, path.stat().st_size)
    return made, comment, times


def frame_rate(times: np.ndarray) -> tuple[Fraction, bool]:
    """Return the average frame rate of frames shown at `times` (seconds), and whether it is constant up to rounding."""
    if len(times) < 2:
        return Fraction(25), True
    rate = max((len(times) - 1) / float(times[-1] - times[0]), 1e-3)
    shown = times - times[0]
    for denominator in (1, 2, 4, 1001):  # 25, 12.5, 30000/1001 and similar
        fraction = Fraction(round(rate * denominator), denominator)
        if fraction and np.all(np.abs(shown - np.arange(len(times)) / float(fraction)) < 1.1e-3):
            return fraction, True
    fraction = max(Fraction(rate).limit_denominator(1001), Fraction(1, 1000))
    return fraction, bool(np.all(np.abs(shown - np.arange(len(times)) / float(fraction)) < 1.1e-3))


def _read(video: FrameReader, chosen: np.ndarray, name: str, *, both_fields: bool) -> Iterator[tuple[int, VideoFrame]]:
    """Decode the frames with the consecutive indices `chosen`; yield (position in `chosen`, frame).

    With `both_fields`, an interlaced frame is yielded as two frames, one for each field, with the same position.
    """
    try:
        first = int(chosen[0])
        for place, frame in video.walk(first, int(chosen[-1]) + 1, both_fields=both_fields):
            yield place - first, frame
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise DecodeError(name, reason_of(error)) from error


def _encode(
    container: Any,
    frames: Iterator[tuple[int, VideoFrame]],
    video: FrameReader,
    times: np.ndarray,
    encoding: Encoding,
) -> list[float]:
    """Encode frames into a container; return the time of each written frame.

    `frames` are (position in `times`, frame). All times are in seconds.
    """
    rate, constant = frame_rate(times)
    fields = 2 if encoding.deinterlace == "fields" else 1
    seconds = times - times[0]
    shown_for = np.append(np.diff(seconds), 1 / float(rate))
    time_base = 1 / (rate * fields) if constant else TICK
    to_size = VideoReformatter()
    to_rgb: RgbConverter | None = None
    stream: Any = None
    written: list[float] = []
    before, last = -1, -1
    for place, frame in frames:
        to_rgb = to_rgb or video.to_rgb()  # only after the first frame: its size is then certain
        picture = _upright(frame, video, to_rgb, encoding)
        if stream is None:
            aspect = plausible_pixel_aspect(video.pixel_aspect_ratio) if picture is frame else 1.0
            width, height = _size(picture.width * aspect, picture.height, encoding.short_side_px)
            stream = container.add_stream("libx264", rate=rate * fields, options=encoding.x264())
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = time_base
        picture = to_size.reformat(
            picture, width, height, "yuv420p", interpolation="BICUBIC", dst_color_range="MPEG", threads=1
        )
        if not written:  # the colour space stays, except for the range
            for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
                setattr(stream.codec_context, name, getattr(picture, name))
        field = int(place == before)
        if constant:
            picture.pts = place * fields + field
        else:
            picture.pts = max(round((seconds[place] + shown_for[place] / 2 * field) / float(TICK)), last + 1)
        last, before = picture.pts, place
        picture.time_base = time_base
        picture.pict_type = 0  # chosen by the encoder, not taken from the source
        container.mux(stream.encode(picture))
        written.append(picture.pts * float(time_base))
    if stream is None:
        raise ValueError("no frames")
    container.mux(stream.encode(None))
    return written


TICK = Fraction(SHORTEST_STEP).limit_denominator(1_000_000)
"""Time base in seconds of videos with a variable frame rate: frame times are rounded to multiples of it."""


def _upright(frame: VideoFrame, video: FrameReader, to_rgb: RgbConverter, encoding: Encoding) -> VideoFrame:
    """Turn a frame upright, and convert HDR to BT.709. A frame that needs neither is returned unchanged."""
    maps_tones = encoding.tone_map == "auto" and is_hdr(frame.color_trc)
    is_plain = (frame.width, frame.height) == video.stored_size and orientation_of(frame) == UPRIGHT
    if is_plain and not maps_tones and not frame.is_corrupt:
        return frame
    return VideoFrame.from_ndarray(np.ascontiguousarray(to_rgb(frame)), format="rgb24")


def _size(width: float, height: float, short_side_px: int) -> tuple[int, int]:
    """Return width and height of the stored frames, for a source of the given width and height.

    Frames whose short side is longer than `short_side_px` are scaled down to it; others keep their size. Both sides are
    then rounded to even numbers, as 4:2:0 needs.
    """
    factor = min(1.0, short_side_px / min(width, height))
    return max(2 * round(width * factor / 2), 2), max(2 * round(height * factor / 2), 2)
