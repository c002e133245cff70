"""Open video containers with FFmpeg, and choose the stream that a player would show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

Source = Path | BinaryIO
"""A video file: its path, or an open binary file with its content."""

NOT_VIDEOS = frozenset(
    ["tty", "image2", "ansi", "bin", "xbin", "idf", "adf", "hls", "applehttp", "dash", "concat", "sdp", "imf"]
)
"""FFmpeg's names of formats that it opens as videos, although they are text, still pictures or playlists."""

_STILL_CODECS = {"mjpeg", "png", "bmp", "webp", "jpegls"}


class NotAVideo(ValueError):
    """The file holds no video."""


def open_container(source: Source) -> InputContainer:
    """Open a video file for decoding with one thread.

    Raises:
        NotAVideo: if the file has no video stream, or is a text, a still picture or a playlist (see `NOT_VIDEOS`).
        av.FFmpegError, ValueError: if the file cannot be opened, or FFmpeg has no decoder for its codec.
    """
    # An absolute path: FFmpeg parses a relative one with a colon as a protocol.
    file: Any = str(source.absolute()) if isinstance(source, Path) else source
    container = av.open(file, metadata_errors="replace")
    formats = set(container.format.name.split(","))
    stream = video_stream(container)
    if stream is None or formats & NOT_VIDEOS or any(name.endswith("_pipe") for name in formats):
        container.close()
        raise NotAVideo("the file has no video stream")
    codec: Any = stream.codec_context
    if codec is None:
        container.close()
        raise ValueError("FFmpeg has no decoder for the video's codec")
    codec.thread_count = 1
    return container


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream that a player would show; None if there is none.

    Cover pictures are never chosen, and still pictures only if there is no moving stream.
    """
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    moving = [each for each in streams if not (each.codec_context and each.codec_context.name in _STILL_CODECS)]
    best = container.streams.best("video")
    candidates = moving or streams
    return next((each for each in candidates if each is best), candidates[0] if candidates else None)


def independent_source(source: Source) -> Source:
    """Return a source that reads the same content from the start, without moving the read position of `source`."""
    if isinstance(source, Path):
        return source
    if isinstance(source, io.BytesIO):
        return io.BytesIO(source.getbuffer())
    place = source.tell()
    source.seek(0)
    copy = io.BytesIO(source.read())
    source.seek(place)
    return copy
