"""One camera: a thread decodes the stream, keeps the frames of the newest window, and reconnects."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta

import av
import torch
from av.packet import Packet
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.errors import VideoError
from farfield.inference.camera_name import without_passwords
from farfield.inference.camera_options import CameraOptions
from farfield.inference.live_stream import LiveStream
from farfield.inference.packet_recorder import PacketRecorder
from farfield.inference.stream_clock import PacketClock
from farfield.timelines.sliding_windows import Window, span_and_hop, window_indices
from farfield.video.error_reason import reason_of

log = logging.getLogger("farfield")


class Camera:
    """A camera whose stream is decoded in a thread.

    The lock of the condition `arrived` guards the frames and the frame count.

    Attributes:
        name: name for messages and output.
        connected: whether frames are arriving.
        ended: whether no more frames will arrive.
        error: why the camera ended; None if it has not ended, if it was stopped, or if its stream ended without an
            error.

    Args:
        name: name for messages and output.
        source: a URL that FFmpeg opens, a file, or a camera's device.
        spec: the network's clip settings.
        options: options for reading the camera, such as the hop between windows and when to reconnect.
        arrived: `threading.Condition` that is notified when a frame has arrived, and when the camera has ended.
        recorder: recorder that is given the stream's packets; None for no recording.
        required: whether the camera ends with an error if the first attempt to open it fails.
    """

    def __init__(
        self,
        name: str,
        source: str,
        spec: ClipSpec,
        options: CameraOptions,
        arrived: threading.Condition,
        recorder: PacketRecorder | None = None,
        *,
        required: bool = False,
    ) -> None:
        self.name = name
        self.recorder = recorder
        self.connected = False
        self.ended = False
        self.error: str | None = None
        self._source = source
        self._spec = spec
        self._options = options
        self._arrived = arrived
        self._required = required
        self._tried = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)
        self._held: deque[tuple[float, Tensor]] = deque()
        self._count = self._due = 0
        self._hop = 1
        self._fps = 1.0
        self._seconds = 0.0  # of the newest frame
        self._begin: float | None = None  # monotonic time of the first frame
        self._begin_utc = datetime.now(UTC)
        self._indices: list[int] = []

    def start(self) -> None:
        """Start a thread that opens and decodes the stream."""
        self._thread.start()

    def wait_opened(self) -> None:
        """Wait until the first attempt to open the stream is over.

        Raises:
            VideoError: if the camera has ended because it could not be opened.
        """
        self._tried.wait()
        if self._begin is None and self.error is not None:
            raise VideoError(self.name, self.error)

    def stop(self) -> None:
        """Signal the thread to end. It ends at the next packet, or when a read times out."""
        self._stopped.set()

    def close(self) -> None:
        """Stop the camera, and wait until its thread has ended."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()

    def utc(self, seconds: float) -> datetime:
        """Convert seconds since the camera's first frame to a date and time in UTC."""
        return self._begin_utc + timedelta(seconds=seconds)

    def now(self) -> float:
        """Return the seconds since the camera's first frame, by this machine's clock; 0 before the first frame."""
        return 0.0 if self._begin is None else time.monotonic() - self._begin

    @property
    def is_due(self) -> bool:
        """Whether a new window is complete."""
        return self._count >= self._due > 0

    def newest_window(self) -> tuple[Window, int]:
        """Return the newest window, and the number of windows skipped since the previous call.

        `is_due` must be True. Windows that were skipped before a reconnection are not counted.
        """
        skipped = (self._count - self._due) // self._hop
        self._due = self._count + self._hop
        frames = list(self._held)
        clip = torch.stack([frames[index][1] for index in self._indices])
        return Window(clip[None], frames[0][0], frames[-1][0] + 1 / self._fps), skipped

    def _run(self) -> None:
        """Decode the stream, and open it again whenever the connection is lost, until the camera ends."""
        wait = self._options.reconnect_seconds
        broken_since: float | None = None
        while not self._stopped.is_set():
            before = self._count
            reason = self._read_once(broken_since)
            if self._count > before:  # frames had arrived: the waiting times start anew
                wait, broken_since = self._options.reconnect_seconds, None
            if self._stopped.is_set():
                break
            is_missing = self._required and self._begin is None
            if reason is None or is_missing or self._options.reconnect == "never":
                self.error = reason
                break
            self._tried.set()
            if broken_since is None:
                broken_since = time.monotonic()
                log.warning("%s: %s. Trying to open the stream again until it succeeds.", self.name, reason)
            self._stopped.wait(wait)
            wait = min(2 * wait, self._options.max_reconnect_seconds)
        with self._arrived:
            self.ended = True
            self._arrived.notify()
        self._tried.set()

    def _read_once(self, broken_since: float | None) -> str | None:
        """Open the stream, and read it until it ends.

        Args:
            broken_since: `time.monotonic()` at which the connection was lost; None if it was not lost.

        Returns:
            Why the stream could not be opened or has ended; the caller decides whether to open it again. None if it
            ended without an error and must not be opened again.
        """
        try:
            stream = LiveStream(self._source, self._spec, self._options.timeout_seconds, name=self.name)
        except VideoError as error:
            return error.reason
        try:
            self._decode(stream, broken_since)
        except (av.FFmpegError, ValueError, OSError) as error:
            return without_passwords(reason_of(error))
        finally:
            with self._arrived:
                self.connected = False
            if self.recorder is not None:
                self.recorder.disconnect()
            stream.close()
        if self._options.reconnect == "never" or (stream.is_recording and self._options.reconnect == "auto"):
            return None
        return "the stream has ended"

    def _decode(self, stream: LiveStream, broken_since: float | None) -> None:
        options = self._options
        span, hop = span_and_hop(
            stream.fps, self._spec, hop_seconds=options.hop_seconds, window_seconds=options.window_seconds
        )
        spread = options.window_seconds is not None
        base = self._continue_time(stream)
        self._tried.set()
        with self._arrived:
            self._indices = window_indices(span, self._spec, span, hop, spread=spread)[0][0].tolist()
            self._held = deque(maxlen=span)  # no window reaches over the break
            self._due = self._count + span
            self._hop, self._fps = hop, stream.fps
        clock = PacketClock(base, 1 / stream.stream_fps)
        recorder = self.recorder
        if recorder is not None:
            recorder.connect(stream.stream)

        def record(packet: Packet) -> None:
            if self._stopped.is_set():
                raise ValueError("stopped")
            if recorder is not None:
                for stored in clock.store(packet):
                    recorder.add(stored)

        for seconds, frame in stream.frames(span, base, record):
            if broken_since is not None:
                log.warning("%s: the stream is back after %.0f s.", self.name, time.monotonic() - broken_since)
                broken_since = None
            with self._arrived:
                self.connected = True
                self._seconds = seconds
                self._held.append((seconds, frame))
                self._count += 1
                self._arrived.notify()
            if self._stopped.is_set():
                return

    def _continue_time(self, stream: LiveStream) -> float:
        """Return the time, in seconds, of the first frame of a connection.

        The time is 0 for the first connection. For a later connection, it is the time since the first frame of the
        first connection, by this machine's clock, but not before the end of the last frame.
        """
        # While the stream is opened, FFmpeg reads its first packets: the first frame is about as old as the attempt.
        age = time.monotonic() - stream.opening
        if self._begin is None:
            self._begin, self._begin_utc = stream.opening, datetime.now(UTC) - timedelta(seconds=age)
            return 0.0
        return max(self.now() - age, self._seconds + 1 / stream.fps if self._count else 0.0)
