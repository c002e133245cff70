"""Track alarms: an alarm starts when a class reaches its threshold, and ends when it stays below a lower threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Alarm:
    """An alarm: a class that has reached its threshold in one camera.

    Attributes:
        number: number of the alarm, counted from 1 by its tracker.
        label: the class.
        start_seconds: start of the first window in which the class reached its threshold.
        end_seconds: end of the last window so far in which the class reached its low threshold, see `AlarmTracker`.
        score: highest probability of the class so far, over the windows that started or continued the alarm.
        is_open: whether the alarm has not ended yet.
    """

    number: int
    label: str
    start_seconds: float
    end_seconds: float
    score: float
    is_open: bool = True


class AlarmTracker:
    """Tracker of the alarms of one camera. A class has at most one open alarm at a time.

    An alarm starts with the first window in which its class reaches `thresholds`. It continues while the class reaches
    `low_thresholds`, and over gaps of at most `gap_seconds`.

    Args:
        labels: class names.
        thresholds: minimum probability of each class at which an alarm starts; NaN for a class without alarms.
        low_thresholds: minimum probability of each class at which its alarm continues; at most `thresholds`.
        gap_seconds: an alarm ends when its class has been below `low_thresholds` for longer than this.
    """

    def __init__(
        self,
        labels: Sequence[str],
        thresholds: Float[np.ndarray, " classes"],
        low_thresholds: Float[np.ndarray, " classes"],
        gap_seconds: float,
    ) -> None:
        self._labels = list(labels)
        self._thresholds = thresholds
        self._low = low_thresholds
        self._gap = gap_seconds
        self._open: dict[int, Alarm] = {}
        self._count = 0

    def update(
        self, start_seconds: float, end_seconds: float, probabilities: Float[np.ndarray, " classes"]
    ) -> list[Alarm]:
        """Update the alarms with the next window, and return those that started, continued or ended.

        Args:
            start_seconds: start of the window, after the start of the previous window.
            end_seconds: end of the window.
            probabilities: probability of each class.

        Returns:
            Alarms that have ended (`is_open` is False), then the open alarms whose class reached its low threshold in
            this window.
        """
        ended = self.end_before(start_seconds - self._gap)
        reached = []
        for index in np.flatnonzero(probabilities >= self._low).tolist():
            alarm = self._open.get(index)
            probability = float(probabilities[index])
            if alarm is not None:
                score = max(alarm.score, probability)
                self._open[index] = replace(alarm, end_seconds=max(alarm.end_seconds, end_seconds), score=score)
            elif probability >= self._thresholds[index]:
                self._count += 1
                self._open[index] = Alarm(self._count, self._labels[index], start_seconds, end_seconds, probability)
            else:
                continue
            reached.append(self._open[index])
        return ended + self.end_before(end_seconds - self._gap) + reached

    def end_before(self, seconds: float) -> list[Alarm]:
        """End the alarms whose `end_seconds` are before `seconds`, and return them."""
        over = [index for index, alarm in self._open.items() if alarm.end_seconds < seconds]
        return [replace(self._open.pop(index), is_open=False) for index in over]

    def end_all(self) -> list[Alarm]:
        """End all alarms, and return them."""
        return self.end_before(float("inf"))
