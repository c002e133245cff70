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
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from farfield.data.decode import DecodeError
from farfield.data.packets import PacketVideo, reason_of
from farfield.data.sampling import ClipTooShort, stream_frames
from farfield.errors import FarfieldError, nearest

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
    """

    short_side_px: int = 256
    keyframe_interval: int = 64
    b_frames: int = 15
    crf: int = 23
    preset: str = "medium"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise FarfieldError(f"encoding.preset is {self.preset!r}. {nearest(self.preset, PRESETS)}")
        for name, least in (("short_side_px", 16), ("keyframe_interval", 1), ("b_frames", 0), ("crf", 0)):
            if getattr(self, name) < least:
                raise FarfieldError(f"encoding.{name} is {getattr(self, name)}; it must be at least {least}.")
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

    Pictures come upright and with square pixels, 8 bit, 4:2:0. A constant rate stays constant; at a variable rate each
    frame keeps its time. There is no sound, and the index stands before the pictures.

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
        video = PacketVideo(source)
    except Exception as error:
        raise DecodeError(name, reason_of(error)) from error
    try:
        chosen = stream_frames(video.times, start_seconds=start_seconds, end_seconds=end_seconds)
        rate, constant = frame_rate(video.times[chosen])
        try:
            with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                container.metadata["comment"] = comment
                _encode(container, _read(video, chosen, name), video, chosen, rate, constant, encoding)
            made, _ = probe(partial)
            if made.num_frames != len(chosen):
                raise DecodeError(name, f"{made.num_frames} of {len(chosen)} frames were written")
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
    try:
        video = PacketVideo(path)
    except Exception as error:
        raise DecodeError(path, reason_of(error)) from error
    times, size, comment = video.times, video.size, video.comment
    video.close()
    duration = float(times[-1]) + 1 / float(frame_rate(times)[0])
    made = Transcoded(len(times), round(len(times) / duration, 3), *size, round(duration, 3), 0, path.stat().st_size)
    return made, comment


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


def _read(video: PacketVideo, chosen: np.ndarray, name: str) -> Iterator[tuple[int, VideoFrame]]:
    try:
        yield from video.walk(int(chosen[0]), int(chosen[-1]) + 1)
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise DecodeError(name, reason_of(error)) from error


def _encode(
    container: Any,
    frames: Iterator[tuple[int, VideoFrame]],
    video: PacketVideo,
    chosen: np.ndarray,
    rate: Fraction,
    constant: bool,
    encoding: Encoding,
) -> None:
    stream: Any = None
    to_size, to_rgb = VideoReformatter(), VideoReformatter()
    time_base = 1 / rate if constant else Fraction(1, 90_000)
    for index, frame in frames:
        quarter_turns = frame.rotation // 90
        if quarter_turns:
            rgb: Any = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(rgb, quarter_turns)), format="rgb24")
        if stream is None:
            width, height = _size(frame, video.pixel_aspect_ratio, quarter_turns, encoding.short_side_px)
            stream = container.add_stream("libx264", rate=rate, options=encoding.x264())
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = time_base
        picture = to_size.reformat(
            frame, width, height, "yuv420p", interpolation="BICUBIC", dst_color_range="MPEG", threads=1
        )
        if index == chosen[0]:  # how YUV is to be understood stays as it was, but for the range
            for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
                setattr(stream.codec_context, name, getattr(picture, name))
        place = index - int(chosen[0])
        seconds = float(video.times[index] - video.times[chosen[0]])
        picture.pts = place if constant else round(seconds * 90_000)
        picture.time_base = time_base
        picture.pict_type = 0  # the encoder's choice, not the source's
        container.mux(stream.encode(picture))
    if stream is None:
        raise ValueError("no frames")
    container.mux(stream.encode(None))


def _size(frame: VideoFrame, pixel_aspect_ratio: Fraction, quarter_turns: int, short_side_px: int) -> tuple[int, int]:
    """Width and height of square pixels: even, as 4:2:0 asks for, and no larger than the source's."""
    width, height = float(frame.width), float(frame.height)
    if quarter_turns % 2:
        height *= float(pixel_aspect_ratio)
    else:
        width *= float(pixel_aspect_ratio)
    factor = min(1.0, short_side_px / min(width, height))
    return max(2 * round(width * factor / 2), 2), max(2 * round(height * factor / 2), 2)
