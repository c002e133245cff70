"""Opens video containers with FFmpeg, and chooses the stream that a player would show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

Source = Path | BinaryIO
"""A file, or its content."""

NOT_VIDEOS = frozenset(
    ["tty", "image2", "ansi", "bin", "xbin", "idf", "adf", "hls", "applehttp", "dash", "concat", "sdp", "imf"]
)
"""Formats that FFmpeg plays as videos: texts, pictures, and lists that name other files."""

_STILL_CODECS = {"mjpeg", "png", "bmp", "webp", "jpegls"}


class NoVideo(ValueError):
    """There is nothing in the file that could be decoded."""


def open_container(source: Source) -> InputContainer:
    """Opens a file, or its content, to be decoded with one thread.

    Raises:
        NoVideo: where there is no video stream in it.
        av.FFmpegError, ValueError: where it cannot be opened, or its codec is unknown.
    """
    # An absolute path: FFmpeg takes a relative one with a colon in it for a protocol.
    file: Any = str(source.absolute()) if isinstance(source, Path) else source
    container = av.open(file, metadata_errors="replace")
    formats = set(container.format.name.split(","))
    stream = video_stream(container)
    if stream is None or formats & NOT_VIDEOS or any(name.endswith("_pipe") for name in formats):
        container.close()
        raise NoVideo("it has no video stream")
    codec: Any = stream.codec_context
    if codec is None:
        container.close()
        raise ValueError("there is no decoder for its codec")
    codec.thread_count = 1
    return container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The stream that a player would show: no cover of an album, and no still where there is a video beside it."""
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    moving = [each for each in streams if not (each.codec_context and each.codec_context.name in _STILL_CODECS)]
    best = container.streams.best("video")
    candidates = moving or streams
    return next((each for each in candidates if each is best), candidates[0] if candidates else None)


def afresh(source: Source) -> Source:
    """Returns a source that can be opened while `source` is open, from its beginning."""
    if isinstance(source, Path):
        return source
    if isinstance(source, io.BytesIO):
        return io.BytesIO(source.getbuffer())
    place = source.tell()
    source.seek(0)
    copy = io.BytesIO(source.read())
    source.seek(place)
    return copy
