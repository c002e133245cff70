"""Options of alarms and of their clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.inference.packet_recorder import PacketRecorder
from farfield.timelines.options import TimelineOptions, check_thresholds

DELAY_SECONDS = 5.0
"""Packets are kept this much longer than clips need, for the time that decoding and scoring take."""

LOWEST_USUAL_FPS = 10.0
"""Frame rate by which a window's length is estimated before the cameras are open."""


@dataclass(frozen=True)
class AlarmOptions:
    """Options of when an alarm starts and ends.

    Args:
        threshold: probability from which on an alarm starts; 0 for the network's own thresholds. A network that is not
            multilabel starts alarms of a window's most probable class only.
        hysteresis: an alarm goes on while its class reaches this share of its threshold; 1 for the threshold itself.
        gap_seconds: an alarm ends when its class has been below that share for longer than this.
        labels: classes that start alarms; None for all.

    Raises:
        FarfieldError: for values out of range.
    """

    threshold: float = TimelineOptions.threshold
    hysteresis: float = TimelineOptions.hysteresis
    gap_seconds: float = 2.0
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_thresholds(self.threshold, self.hysteresis)
        if not self.gap_seconds >= 0:
            raise FarfieldError(f"gap_seconds is {self.gap_seconds}; it must be 0 or more.")


@dataclass(frozen=True)
class ClipOptions:
    """Options of the clips of alarms.

    Args:
        folder: folder to write them to; it is made if it does not exist.
        seconds_before: duration that is shown before the start of the alarm, from the last keyframe before it on.
        seconds_after: duration that is shown after the end of the alarm.
        max_seconds: maximum length of a clip, from its keyframe on.
        max_bytes: maximum size of the packets in memory, for each camera.

    Raises:
        FarfieldError: for values out of range.
    """

    folder: Path
    seconds_before: float = 5.0
    seconds_after: float = 5.0
    max_seconds: float = 120.0
    max_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        if not (self.seconds_before >= 0 and self.seconds_after >= 0):
            raise FarfieldError(
                f"clip_seconds_before is {self.seconds_before} and clip_seconds_after is {self.seconds_after}; both "
                "must be 0 or more."
            )
        if not self.max_seconds > 0:
            raise FarfieldError(f"max_clip_seconds is {self.max_seconds}; it must be positive.")

    def prepare(self, clip: ClipSpec, window_seconds: float | None) -> Callable[[], PacketRecorder]:
        """Make the folder, and return a function that makes the recorder of a camera.

        Args:
            clip: the network's clip settings.
            window_seconds: length of a window; None for the length of the network's clips.

        Raises:
            FarfieldError: if the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FarfieldError(
                f"{self.folder} cannot be made: {error.strerror or error}. Choose another folder for clips."
            ) from error
        window_seconds = window_seconds or clip.span / (clip.target_fps or LOWEST_USUAL_FPS)
        buffer_seconds = self.seconds_before + window_seconds + DELAY_SECONDS  # an alarm starts with its window
        return lambda: PacketRecorder(buffer_seconds, self.max_bytes, self.max_seconds)
