"""Checks of an uploaded video before it is decoded: that it is a video, its frame size, frame count and duration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farfield.errors import VideoError
from farfield.server.limits import Limits
from farfield.server.refusals import Refused
from farfield.video.container import open_container, video_stream
from farfield.video.decoders import open_video
from farfield.video.frame_rate import frame_rate

_PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat")


@dataclass(frozen=True)
class VideoFacts:
    """Properties of a video that are known without decoding it.

    Attributes:
        duration_seconds: from the first frame to the end of the last.
        fps: frame rate.
    """

    duration_seconds: float
    fps: float


def check_upload(path: Path, name: str, limits: Limits) -> VideoFacts:
    """Check an uploaded file against the limits, and return the video's duration and frame rate. Decodes no frame.

    Args:
        path: the file.
        name: display name of the file, for messages.
        limits: limits on frame size, frame count and duration.

    Raises:
        Refused: for a video that exceeds a limit.
        VideoError: for a file that is text or cannot be opened.
    """
    refuse_text(path)
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            width, height = (stream.codec_context.width, stream.codec_context.height) if stream else (0, 0)
    except Exception:  # FFmpeg's errors are of many types; open_video fails on the same file with a readable message
        width = height = 0
    if width * height > limits.frame_pixels:
        raise Refused(
            f"{name}: its frames are {width} x {height}; the limit is {limits.frame_pixels / 1e6:.3g} million pixels. "
            "Scale it down.",
            "too_large",
        )
    with open_video(path) as video:
        times = video.times
    if len(times) > limits.frame_count:
        raise Refused(f"{name}: it has {len(times)} frames; the limit is {limits.frame_count}. Cut it.", "too_long")
    seconds = float(times[-1] - times[0]) * (len(times) / max(len(times) - 1, 1))  # the last lasts as long as the mean
    if seconds > limits.clip_seconds:
        raise Refused(
            f"{name}: it is {seconds:.0f} s long; the limit is {limits.clip_seconds:g} s. Cut it.", "too_long"
        )
    return VideoFacts(seconds, frame_rate(times))


def refuse_text(path: Path) -> None:
    """Refuse a text file before FFmpeg reads it.

    FFmpeg recognises playlists by their content, and opens the files and addresses that they name before
    `open_container` can refuse the format. Every video format has control characters, of sizes and counts, in its first
    bytes; a text has none.

    Raises:
        VideoError: for a text file or a playlist.
    """
    with path.open("rb") as file:
        head = file.read(64)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text and (text.startswith(_PLAYLIST_STARTS) or not any(byte < 32 and byte not in b"\t\n\r\f" for byte in text)):
        raise VideoError(path, "it is text, not a video")
