"""Read a group of cameras: each step returns the newest window of every camera that has a new window."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from farfield.clip_spec import ClipSpec
from farfield.inference.camera import Camera
from farfield.inference.camera_name import named_sources
from farfield.inference.camera_options import CameraOptions
from farfield.inference.packet_recorder import PacketRecorder
from farfield.timelines.sliding_windows import Window
from farfield.timelines.window_lengths import check_window_lengths

log = logging.getLogger("farfield")

SECONDS_BETWEEN_WARNINGS = 60.0
"""Seconds over which skipped windows are counted before a warning.

The time is long, so that the burst of frames at the beginning of a connection does not cause a warning.
"""

TOLERATED_SKIPS = 0.1
"""Share of windows that may be skipped without a warning."""


@dataclass(frozen=True)
class CameraWindow:
    """The newest window of a camera.

    Attributes:
        camera: the camera.
        window: the newest window of the camera.
        skipped: number of windows of the camera that were skipped since its previously returned window, because scoring
            is slower than the camera.
    """

    camera: Camera
    window: Window
    skipped: int


class CameraGroup:
    """A group of open cameras, from `open_cameras`.

    If more cameras have a new window than `next_windows` may return, they take turns.

    Args:
        cameras: cameras that have been started.
        arrived: condition that the cameras notify of new frames.
    """

    def __init__(self, cameras: Sequence[Camera], arrived: threading.Condition) -> None:
        self.cameras = list(cameras)
        self._arrived = arrived
        self._turn = 0
        self._taken = self._skipped = 0
        self._counted_since = time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Whether no camera will have another window."""
        with self._arrived:
            return all(camera.ended and not camera.is_due for camera in self.cameras)

    def next_windows(self, max_windows: int, timeout_seconds: float | None = None) -> list[CameraWindow]:
        """Wait until a camera has a new window, and return the newest window of each camera that has a new one.

        Args:
            max_windows: maximum number of windows to return. If more cameras have a new window, the remaining cameras
                come first in the next call.
            timeout_seconds: maximum time to wait; None for no limit.

        Returns:
            At most one window of each camera; an empty list after the timeout, or if all cameras have ended.
        """

        def due() -> list[Camera]:
            order = self.cameras[self._turn :] + self.cameras[: self._turn]
            return [camera for camera in order if camera.is_due][:max_windows]

        with self._arrived:
            self._arrived.wait_for(lambda: due() or all(each.ended for each in self.cameras), timeout_seconds)
            found = [CameraWindow(camera, *camera.newest_window()) for camera in due()]
        if found:
            self._turn = (self.cameras.index(found[-1].camera) + 1) % len(self.cameras)
        self._taken += len(found)
        self._skipped += sum(each.skipped for each in found)
        self._warn_of_skipped()
        return found

    def _warn_of_skipped(self) -> None:
        if time.monotonic() - self._counted_since < SECONDS_BETWEEN_WARNINGS:
            return
        if self._skipped > TOLERATED_SKIPS * (self._skipped + self._taken):
            log.warning(
                "scoring is slower than the cameras: %d of the last %d windows were skipped. Give a longer "
                "hop_seconds, fewer cameras or a faster device.",
                self._skipped,
                self._skipped + self._taken,
            )
        self._counted_since = time.monotonic()
        self._taken = self._skipped = 0


@contextmanager
def open_cameras(
    sources: Sequence[str],
    spec: ClipSpec,
    options: CameraOptions,
    recorder: Callable[[], PacketRecorder] | None = None,
) -> Iterator[CameraGroup]:
    """Open cameras, and yield them as a `CameraGroup` for the `with` block.

    A single camera must be available at the start. If there are several cameras, those that are not available yet are
    tried again until they can be opened, unless `options.reconnect` is "never".

    Args:
        sources: cameras, each as SOURCE or NAME=SOURCE. A source is a URL that FFmpeg opens (rtsp, http, udp, tcp,
            ...), a file, or a device such as /dev/video0.
        spec: the network's clip settings.
        options: options for reading the cameras.
        recorder: function that creates the recorder of a camera's packets; None for no recording.

    Raises:
        FarfieldError: if two cameras have the same name, or if `options.window_seconds` is None and the network has no
            window length of its own, because it samples frames from a whole video.
        VideoError: if there is only one camera and it cannot be opened; with `options.reconnect` "never", if any of the
            cameras cannot be opened.
    """
    check_window_lengths(spec, options.hop_seconds, options.window_seconds)
    arrived = threading.Condition()
    required = len(sources) == 1 or options.reconnect == "never"
    cameras = [
        Camera(name, source, spec, options, arrived, recorder and recorder(), required=required)
        for name, source in named_sources(sources)
    ]
    try:
        for camera in cameras:
            camera.start()
        for camera in cameras if required else []:
            camera.wait_opened()
        yield CameraGroup(cameras, arrived)
    finally:
        for camera in cameras:
            camera.stop()
        for camera in cameras:
            camera.close()
