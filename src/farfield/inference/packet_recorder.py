"""Record clips of a camera's stream without encoding it again. A clip can begin before it is requested."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
from av.video.stream import VideoStream

from farfield.video.error_reason import reason_of
from farfield.video.packet_buffer import PacketBuffer, StoredPacket
from farfield.video.packet_writer import StreamTemplate, packet_writer

MAX_OPEN_CLIPS = 16
"""Maximum number of clips of one camera that are recorded at the same time. Further clips get an error."""

NOT_IN_MEMORY = "no packets of this time are in memory"


@dataclass(frozen=True)
class RecordedClip:
    """A clip that is finished, or could not be recorded.

    Attributes:
        key: key that was given to `begin`.
        path: the file; None if there is an error.
        start_seconds: time of the clip's first frame, which is a keyframe, in seconds since the camera's first frame;
            None if there is an error.
        end_seconds: end of the clip's last frame, on the same clock; None if there is an error.
        error: why there is no file; None if the file was written.
    """

    key: int
    path: Path | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    error: str | None = None


class PacketRecorder:
    """Recorder of clips of one camera. The decoding thread adds packets, and another thread begins and ends clips.

    A clip starts with a keyframe. It ends at the latest when the connection breaks, because the stream of another
    connection may have another codec or size.

    Args:
        buffer_seconds: number of seconds for which packets are kept in memory, so that a clip can begin in the past.
        max_bytes: maximum size, in bytes, of the packets in memory for clips that may begin later. An open clip also
            keeps the packets after its current end, because it may be extended. For each open clip, `max_bytes` is also
            the maximum total size of these packets. If it is exceeded, the oldest of them are written to the clip.
        max_clip_seconds: maximum length of a clip; a clip ends when it is this long.
    """

    def __init__(self, buffer_seconds: float, max_bytes: int, max_clip_seconds: float) -> None:
        self._buffer = PacketBuffer(buffer_seconds, max_bytes)
        self._max_bytes = max_bytes
        self._max_clip_seconds = max_clip_seconds
        self._template: StreamTemplate | None = None
        self._connected = False
        self._open: dict[int, _OpenClip] = {}
        self._finished: deque[RecordedClip] = deque()
        self._lock = threading.Lock()

    @property
    def suffix(self) -> str:
        """Suffix of the clips' files, .mp4 or .mkv."""
        return ".mp4" if self._template is None else self._template.suffix

    def connect(self, stream: VideoStream) -> None:
        """Forget the packets of the previous connection, and prepare for a new connection."""
        with self._lock:
            self._buffer.clear()
            self._template = StreamTemplate(stream)
            self._connected = True

    def add(self, packet: StoredPacket) -> None:
        """Add the next packet of the stream."""
        with self._lock:
            self._buffer.add(packet)
            for clip in list(self._open.values()):
                self._attempt(clip, partial(clip.add, packet))

    def disconnect(self) -> None:
        """End all clips, because the connection has ended."""
        with self._lock:
            self._connected = False
            for clip in list(self._open.values()):
                self._finish(clip)

    def begin(self, key: int, path: Path, start_seconds: float, until_seconds: float) -> None:
        """Begin a clip at the last keyframe at or before `start_seconds`.

        If all keyframes in memory are later, the clip begins at the first of them. If the clip cannot begin, `finished`
        returns it with an error.

        Args:
            key: key of the clip, for `extend` and `finished`.
            path: file to write.
            start_seconds: time at which the clip should start, in seconds since the camera's first frame.
            until_seconds: time at which the clip should end, unless it is extended.
        """
        with self._lock:
            packets = self._buffer.since(start_seconds)
            if self._template is None or not packets:
                self._finished.append(RecordedClip(key, error=NOT_IN_MEMORY))
                return
            if len(self._open) >= MAX_OPEN_CLIPS:
                self._finished.append(RecordedClip(key, error=f"{MAX_OPEN_CLIPS} clips are being recorded already"))
                return
            clip = _OpenClip(key, path, self._template, until_seconds, self._max_clip_seconds, self._max_bytes)
            self._open[key] = clip
            self._attempt(clip, partial(clip.open, packets))
            if not self._connected and key in self._open:
                self._finish(clip)

    def extend(self, key: int, until_seconds: float, *, final: bool = False) -> None:
        """Move the end of a clip to a later time. Nothing happens if the clip has ended.

        Args:
            key: key of the clip.
            until_seconds: time at which the clip should end.
            final: True if the clip will not be extended again. The clip is then finished when a packet at or after
                `until_seconds` arrives.
        """
        with self._lock:
            clip = self._open.get(key)
            if clip is not None:
                self._attempt(clip, partial(clip.extend, until_seconds, final))

    def finish(self) -> None:
        """End all clips now, with the packets that have arrived."""
        with self._lock:
            for clip in list(self._open.values()):
                self._finish(clip)

    def finished(self) -> list[RecordedClip]:
        """Return the clips that were finished, or failed, since the previous call."""
        with self._lock:
            found = list(self._finished)
            self._finished.clear()
            return found

    def _attempt(self, clip: _OpenClip, step: Callable[[], None]) -> None:
        """Run `step`, which writes to a clip. End the clip if it is complete or cannot be written."""
        try:
            step()
        except (av.FFmpegError, OSError, ValueError) as error:
            clip.discard()
            del self._open[clip.key]
            self._finished.append(RecordedClip(clip.key, error=reason_of(error)))
            return
        if clip.is_complete:
            self._finish(clip)

    def _finish(self, clip: _OpenClip) -> None:
        del self._open[clip.key]
        try:
            self._finished.append(clip.close())
        except (av.FFmpegError, OSError, ValueError) as error:
            clip.discard()
            self._finished.append(RecordedClip(clip.key, error=reason_of(error)))


class _OpenClip:
    """A clip that is being written. Packets after its current end are kept in memory, as the clip may be extended."""

    def __init__(
        self, key: int, path: Path, template: StreamTemplate, until: float, max_seconds: float, max_bytes: int
    ) -> None:
        self.key = key
        self.is_complete = False
        self._path = path
        self._template = template
        self._until = until
        self._final = False
        self._max_seconds = max_seconds
        self._max_bytes = max_bytes
        self._stack = ExitStack()
        self._waiting: deque[StoredPacket] = deque()
        self._waiting_bytes = 0
        self._start: float | None = None
        self._end = 0.0

    def open(self, packets: list[StoredPacket]) -> None:
        self._write = self._stack.enter_context(packet_writer(self._path, self._template))
        for packet in packets:
            self.add(packet)

    def add(self, packet: StoredPacket) -> None:
        self._waiting.append(packet)
        self._waiting_bytes += len(packet.data)
        self._flush()

    def extend(self, until: float, final: bool) -> None:
        self._until = max(self._until, until)
        self._final = self._final or final
        self._flush()

    def close(self) -> RecordedClip:
        """Finish the file, without the packets after the clip's end."""
        if self._start is None:
            self.discard()
            return RecordedClip(self.key, error=NOT_IN_MEMORY)
        with self._stack.pop_all():
            pass
        return RecordedClip(self.key, self._path, self._start, self._end)

    def discard(self) -> None:
        """Close the file without keeping it."""
        with suppress(av.FFmpegError, OSError, ValueError), self._stack.pop_all():
            raise OSError("discarded")

    def _flush(self) -> None:
        while self._waiting and not self.is_complete:
            packet = self._waiting[0]
            if packet.decode_seconds >= self._until:
                self.is_complete = self._final
                if self._final or self._waiting_bytes <= self._max_bytes:
                    return
            self._waiting.popleft()
            self._waiting_bytes -= len(packet.data)
            self._write(packet)
            if self._start is None:
                self._start = packet.seconds
            self._end = max(self._end, packet.seconds + packet.duration * float(packet.time_base))
            self.is_complete = packet.decode_seconds - self._start >= self._max_seconds
