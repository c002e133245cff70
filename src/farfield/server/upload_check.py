"""Check an uploaded file before it is decoded: file type, frame size, frame count and duration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farfield.clip_spec import ClipSpec
from farfield.errors import VideoError
from farfield.server.limits import Limits, ServerSettings
from farfield.server.refusals import Refused
from farfield.video.container import open_container, video_stream
from farfield.video.decoders import Video, open_video
from farfield.video.frame_rate import duration_seconds

_PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat")


@contextmanager
def open_upload(path: Path, name: str, settings: ServerSettings, spec: ClipSpec) -> Iterator[Video]:
    """Open an uploaded video for the `with` block, after checking it against the limits. The checks decode no frame.

    Args:
        path: the uploaded file.
        name: display name of the file, for messages.
        settings: decoder, and limits on frame size, frame count and duration.
        spec: the network's clip settings. Only deinterlacing and tone mapping are used.

    Raises:
        Refused: for a video that exceeds a limit.
        VideoError: for a file that is text or cannot be opened.
    """
    limits = settings.limits
    refuse_text(path)
    _check_frame_size(path, name, limits)
    with open_video(path, settings.decoder, deinterlace=spec.deinterlace, tone_map=spec.tone_map) as video:
        if len(video.times) > limits.frame_count:
            raise Refused(
                f"{name}: it has {len(video.times)} frames; the limit is {limits.frame_count}. Cut the video.",
                "too_long",
            )
        seconds = duration_seconds(video.times)
        if seconds > limits.clip_seconds:
            raise Refused(
                f"{name}: it is {seconds:.0f} s long; the limit is {limits.clip_seconds:g} s. Cut the video.",
                "too_long",
            )
        yield video


def _check_frame_size(path: Path, name: str, limits: Limits) -> None:
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            width, height = (stream.codec_context.width, stream.codec_context.height) if stream else (0, 0)
    except Exception:  # FFmpeg's errors are of many types; open_video fails on the same file with a readable message
        return
    if width * height > limits.frame_pixels:
        raise Refused(
            f"{name}: its frames are {width} x {height}; the limit is {limits.frame_pixels / 1e6:.3g} million pixels. "
            "Scale the video down.",
            "too_large",
        )


def refuse_text(path: Path) -> None:
    """Refuse a text file before FFmpeg reads it.

    FFmpeg recognises a playlist by its content, and then opens the files and URLs in the playlist. This happens before
    `open_container` can refuse the format. The first bytes of every video format include control characters, as parts
    of sizes and counts. A text file has no control characters except white space.

    Raises:
        VideoError: for a text file or a playlist.
    """
    with path.open("rb") as file:
        head = file.read(64)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text and (text.startswith(_PLAYLIST_STARTS) or not any(byte < 32 and byte not in b"\t\n\r\f" for byte in text)):
        raise VideoError(path, "it is text, not a video")
