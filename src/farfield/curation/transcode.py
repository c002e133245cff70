"""One video into the form that training reads fastest: small, without sound, and cheap to enter anywhere.

Short groups of pictures make a random clip cheap: little lies between its frames and the keyframes before them. Within
a group, frames that no other refers to cost bytes and no time, since the reader drops what nobody wants. So a store
has keyframes at a fixed distance, runs of B-frames that are never referred to, and neither in-loop filter nor
arithmetic coding, which would slow the decoder down (`scripts/benchmark_data.py` measures what each brings).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args, get_type_hints

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from farfield.data.frame_sampling import ClipTooShort, stream_frames
from farfield.errors import FarfieldError, nearest
from farfield.video.decoders import DecodeError
from farfield.video.deinterlacing import Deinterlace
from farfield.video.error_reason import reason_of
from farfield.video.frame_conversion import RgbConverter, plausible_pixel_aspect
from farfield.video.frame_reader import FrameReader, open_reader
from farfield.video.frame_times import SHORTEST_STEP
from farfield.video.orientation import UPRIGHT, orientation_of
from farfield.video.tone_mapping import ToneMap, is_hdr

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")


@dataclass(frozen=True)
class Encoding:
    """How a store's videos are encoded.

    Args:
        short_side_px: larger videos are reduced, with their aspect ratio, to a short side of so many pixels. Smaller
            ones are never enlarged.
        keyframe_interval: frames from one keyframe to the next.
        b_frames: frames between two others that no frame refers to.
        crf: x264's constant rate factor: 0 is lossless, 23 x264's default, 51 worst.
        preset: x264's: slower ones take fewer bytes for the same picture, and more time here.
        deinterlace: "frames" makes one picture of each interlaced frame, "fields" one of each field, so that a video at
            25 frames per second is stored at 50; "off" keeps the combs.
        tone_map: "auto" converts HDR pictures (HLG and PQ) to BT.709, "off" none.
    """

    short_side_px: int = 256
    keyframe_interval: int = 64
    b_frames: int = 15
    crf: int = 23
    preset: str = "medium"
    deinterlace: Literal["frames", "fields", "off"] = "frames"
    tone_map: ToneMap = "auto"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise FarfieldError(f"encoding.preset is {self.preset!r}. {nearest(self.preset, PRESETS)}")
        for name, least in (("short_side_px", 16), ("keyframe_interval", 1), ("b_frames", 0), ("crf", 0)):
            if getattr(self, name) < least:
                raise FarfieldError(f"encoding.{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("deinterlace", "tone_map"):
            choices = get_args(get_type_hints(Encoding)[name])
            if getattr(self, name) not in choices:
                raise FarfieldError(
                    f"encoding.{name} is {getattr(self, name)!r}. {nearest(getattr(self, name), choices)}"
                )
        if self.b_frames > 16 or self.crf > 51:
            raise FarfieldError("encoding.b_frames is at most 16 and encoding.crf at most 51.")

    def x264(self) -> dict[str, str]:
        """The encoder's options."""
        b_frames = min(self.b_frames, max(self.keyframe_interval - 2, 0))
        structure = {
            "keyint": self.keyframe_interval,
            "min-keyint": self.keyframe_interval,
            "scenecut": 0,
            "open-gop": 0,
            "bframes": b_frames,
            "b-adapt": 0,
            "b-pyramid": "none",
        }
        params = ":".join(f"{name}={value}" for name, value in structure.items())
        return {
            "crf": str(self.crf),
            "preset": self.preset,
            "tune": "fastdecode",
            "threads": "1",
            "x264-params": params,
        }


@dataclass(frozen=True)
class Transcoded:
    """What came of a video.

    Attributes:
        num_frames: frames written.
        fps: their average rate.
        width: in pixels.
        height: in pixels.
        duration_seconds: from the first frame's showing to the last one's end.
        source_bytes: size of the file that was read.
        bytes: size of the file that was written.
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
    name: str | None = None,
    comment: str = "",
) -> Transcoded:
    """Writes a video, or the segment [start_seconds, end_seconds) of it, as H.264 in MP4: whole or not at all.

    Pictures come upright, deinterlaced, with square pixels and in BT.709 where they were HDR, 8 bit, 4:2:0. A constant
    rate stays constant; at a variable rate each frame keeps its time. There is no sound, and the index comes before
    the pictures.

    Args:
        source: a file, or its content.
        target: the file to write; its folder must be there.
        encoding: how.
        start_seconds: where the segment begins; None for the beginning.
        end_seconds: where it ends; None for the end.
        name: what to call the video in messages; None for the source's path.
        comment: kept in the file's metadata; `probe` returns it.

    Raises:
        DecodeError: where the source cannot be decoded from the segment's first frame to its last.
        FarfieldError: where the target cannot be written.
    """
    name = name or str(source)
    # A name of its own length: that of the target may be as long as the file system allows.
    digest = hashlib.sha256(target.name.encode(errors="surrogateescape")).hexdigest()[:12]
    partial = target.with_name(f"{digest}.{os.getpid()}.partial")
    try:
        deinterlace: Deinterlace = "off" if encoding.deinterlace == "off" else "auto"
        video = open_reader(source, name=name, deinterlace=deinterlace, tone_map=encoding.tone_map)
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
                raise DecodeError(name, f"{made.num_frames} of {len(written)} frames were written")
            if np.abs(times - written).max() > 2e-3:
                raise DecodeError(name, "its times could not be kept")
            partial.replace(target)
        except OSError as error:  # what reading raises has become a DecodeError
            raise FarfieldError(f"{target} cannot be written: {error.strerror or error}.") from error
    except ClipTooShort as error:
        raise DecodeError(name, str(error)) from error
    except FarfieldError:
        raise
    except (
        av.FFmpegError,
        ValueError,
        ArithmeticError,
        MemoryError,
    ) as error:  # of the encoder, for odd sizes and rates
        raise DecodeError(name, f"it cannot be encoded: {reason_of(error)}") from error
    finally:
        video.close()
        partial.unlink(missing_ok=True)
    source_bytes = source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)
    return replace(made, source_bytes=source_bytes)


def probe(path: Path) -> tuple[Transcoded, str]:
    """What `transcode` returned for a file that it wrote, but for the source's size, and the comment in it.

    Raises:
        DecodeError: where the file cannot be opened.
    """
    made, comment, _ = _probe(path)
    return made, comment


def _probe(path: Path) -> tuple[Transcoded, str, np.ndarray]:
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
    """The average rate of frames shown at `times`, and whether it is constant but for the rounding of containers."""
    if len(times) < 2:
        return Fraction(25), True
    rate = max((len(times) - 1) / float(times[-1] - times[0]), 1e-3)
    shown = times - times[0]
    for denominator in (1, 2, 4, 1001):  # 25, 12.5, 30000/1001 and the like
        fraction = Fraction(round(rate * denominator), denominator)
        if fraction and np.all(np.abs(shown - np.arange(len(times)) / float(fraction)) < 1.1e-3):
            return fraction, True
    fraction = max(Fraction(rate).limit_denominator(1001), Fraction(1, 1000))
    return fraction, bool(np.all(np.abs(shown - np.arange(len(times)) / float(fraction)) < 1.1e-3))


def _read(video: FrameReader, chosen: np.ndarray, name: str, *, both_fields: bool) -> Iterator[tuple[int, VideoFrame]]:
    """Yields frames with their places in `chosen`."""
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
    """Encodes frames that are shown at `times`; returns the seconds at which what was written is shown."""
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
        to_rgb = to_rgb or video.to_rgb()  # the size is certain when the first frame is there
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
        if not written:  # how YUV is to be understood stays as it was, but for the range
            for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
                setattr(stream.codec_context, name, getattr(picture, name))
        field = int(place == before)
        if constant:
            picture.pts = place * fields + field
        else:
            picture.pts = max(round((seconds[place] + shown_for[place] / 2 * field) / float(TICK)), last + 1)
        last, before = picture.pts, place
        picture.time_base = time_base
        picture.pict_type = 0  # the encoder's choice, not the source's
        container.mux(stream.encode(picture))
        written.append(picture.pts * float(time_base))
    if stream is None:
        raise ValueError("no frames")
    container.mux(stream.encode(None))
    return written


TICK = Fraction(SHORTEST_STEP).limit_denominator(1_000_000)
"""Seconds to which times are rounded at a variable rate."""


def _upright(frame: VideoFrame, video: FrameReader, to_rgb: RgbConverter, encoding: Encoding) -> VideoFrame:
    """A frame as it is shown; the same one where nothing has to be done but to make its pixels square."""
    maps_tones = encoding.tone_map == "auto" and is_hdr(frame.color_trc)
    is_plain = (frame.width, frame.height) == video.stored_size and orientation_of(frame) == UPRIGHT
    if is_plain and not maps_tones and not frame.is_corrupt:
        return frame
    return VideoFrame.from_ndarray(np.ascontiguousarray(to_rgb(frame)), format="rgb24")


def _size(width: float, height: float, short_side_px: int) -> tuple[int, int]:
    """Width and height of the stored picture: even, as 4:2:0 asks for, and no larger than the source's."""
    factor = min(1.0, short_side_px / min(width, height))
    return max(2 * round(width * factor / 2), 2), max(2 * round(height * factor / 2), 2)
