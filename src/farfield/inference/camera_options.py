"""Options for reading cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from farfield.errors import FarfieldError, nearest
from farfield.timelines.window_lengths import check_window_lengths

Reconnect = Literal["auto", "always", "never"]
"""When a camera is opened again, see `CameraOptions.reconnect`."""


@dataclass(frozen=True)
class CameraOptions:
    """Options for reading cameras.

    Args:
        hop_seconds: minimum time between the starts of two successive windows; None for half a window.
        window_seconds: length of a window; None for the network's `num_frames` frames at its `frame_stride`.
        timeout_seconds: maximum time for opening a camera, and for each read.
        reconnect: "auto" opens a stream again after an error. It also opens a live stream again after its end, because
            the end looks like a lost connection. "always" also plays recordings (streams with a stated length) again
            from the start. "never" opens no stream again.
        reconnect_seconds: waiting time before the first attempt to reconnect. It doubles with each further attempt.
        max_reconnect_seconds: maximum waiting time between attempts.

    Raises:
        FarfieldError: for values out of range.
    """

    hop_seconds: float | None = None
    window_seconds: float | None = None
    timeout_seconds: float = 10.0
    reconnect: Reconnect = "auto"
    reconnect_seconds: float = 1.0
    max_reconnect_seconds: float = 60.0

    def __post_init__(self) -> None:
        check_window_lengths(None, self.hop_seconds, self.window_seconds)
        if self.reconnect not in get_args(Reconnect):
            raise FarfieldError(f"reconnect is {self.reconnect!r}. {nearest(self.reconnect, get_args(Reconnect))}")
        if not (self.timeout_seconds > 0 and self.reconnect_seconds > 0):
            raise FarfieldError(
                f"timeout_seconds is {self.timeout_seconds} and reconnect_seconds is {self.reconnect_seconds}; both "
                "must be positive."
            )
        if self.max_reconnect_seconds < self.reconnect_seconds:
            raise FarfieldError(
                f"max_reconnect_seconds is {self.max_reconnect_seconds}; it must be at least reconnect_seconds, "
                f"{self.reconnect_seconds}."
            )
