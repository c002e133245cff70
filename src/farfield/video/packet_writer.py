"""Write a stream's packets to a video file without encoding them again."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream

from farfield.atomic_write import atomic_write
from farfield.video.packet_buffer import StoredPacket

MP4_CODECS = frozenset({"h264", "hevc", "av1", "mpeg4"})
"""Codecs that are written to .mp4 files, which every player opens. Other streams are written to .mkv files."""


class StreamTemplate:
    """A copy of a stream's codec parameters, which stays valid after the stream's container is closed."""

    def __init__(self, stream: VideoStream) -> None:
        self._holder = av.open(io.BytesIO(), "w", format="matroska")  # holds the parameters; nothing is written to it
        self._stream: Any = self._holder.add_stream_from_template(stream, opaque=True)  # opaque: needs no encoder
        self.suffix = ".mp4" if stream.codec_context.codec.canonical_name in MP4_CODECS else ".mkv"

    def add_to(self, container: Any) -> Any:
        """Add a stream with these parameters to an output container; return the stream."""
        return container.add_stream_from_template(self._stream, opaque=True)


@contextmanager
def packet_writer(path: Path, template: StreamTemplate) -> Iterator[Callable[[StoredPacket], None]]:
    """Open a video file for the `with` block, and yield the function that writes the next packet to it.

    The file is written atomically: it exists only once the block has ended without an error. Times in the file are
    relative to the first packet's decoding time. If the source's clock jumps back, the times in the file continue from
    the previous packet.

    Args:
        path: file to write; the suffix .mp4 or .mkv gives its format.
        template: parameters of the stream that the packets belong to.

    Raises:
        av.FFmpegError, OSError, ValueError: if the file cannot be written, or its format cannot hold the stream.
    """
    form = "mp4" if path.suffix == ".mp4" else "matroska"
    with atomic_write(path) as partial, av.open(str(partial), "w", format=form) as container:
        stream = template.add_to(container)
        offset: int | None = None
        last = -1

        def write(stored: StoredPacket) -> None:
            nonlocal offset, last
            if offset is None or stored.dts - offset <= last:  # the first packet, or the clock has jumped back
                offset = stored.dts - last - (1 if offset is None else max(stored.duration, 1))
            packet = av.Packet(stored.data)
            packet.time_base = stored.time_base
            packet.dts = last = stored.dts - offset
            packet.pts = stored.pts - offset
            packet.duration = stored.duration
            packet.is_keyframe = stored.is_keyframe
            packet.stream = stream
            container.mux(packet)

        yield write
