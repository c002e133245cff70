"""Options for alarms (an alarm reports that a camera shows a class), and for the clips recorded for alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.inference.packet_recorder import PacketRecorder
from farfield.timelines.options import TimelineOptions, check_thresholds

DELAY_SECONDS = 5.0
"""Additional seconds for which packets are kept in memory, because decoding and scoring take time."""

LOWEST_USUAL_FPS = 10.0
"""Frame rate for estimating the length of a window before the cameras' own frame rates are known."""


@dataclass(frozen=True)
class AlarmOptions:
    """Options that decide when an alarm starts and ends.

    Args:
        threshold: minimum probability of a class at which an alarm starts; 0 for the network's own thresholds. In a
            multilabel network, any class can start an alarm. In other networks, only the most probable class of a
            window (for `multi_head`, of each head) can start or continue one.
        hysteresis: the probability needed to continue an alarm, as a share of the threshold that starts it; above 0 and
            at most 1.
        gap_seconds: an alarm ends when its class has been below `hysteresis` x threshold for longer than this.
        labels: classes that can start alarms; None for all.

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
    """Options of the clips that are recorded for alarms.

    Args:
        folder: folder to write the clips to; created if it does not exist.
        seconds_before: seconds of video that a clip includes before the start of its alarm. The clip may begin earlier,
            because it has to start at a keyframe.
        seconds_after: seconds of video that a clip includes after the end of its alarm.
        max_seconds: maximum length of a clip, counted from its first keyframe.
        max_bytes: maximum size, in bytes, of packets in memory. Each camera has this limit for the packets before an
            alarm, and each open clip has it for the packets that are not written yet.

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
        """Create the folder of the clips, and return a function that creates the recorder of a camera.

        Args:
            clip: the network's clip settings.
            window_seconds: length of a window; None for the length of the network's clips.

        Raises:
            FarfieldError: if the folder cannot be created.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FarfieldError(
                f"{self.folder} cannot be created: {error.strerror or error}. Choose another folder for clips."
            ) from error
        window_seconds = window_seconds or clip.span / (clip.target_fps or LOWEST_USUAL_FPS)
        buffer_seconds = self.seconds_before + window_seconds + DELAY_SECONDS  # an alarm starts with its window
        return lambda: PacketRecorder(buffer_seconds, self.max_bytes, self.max_seconds)
