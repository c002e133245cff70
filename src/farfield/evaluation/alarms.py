"""Metrics of a timeline that raises alarms: false alarms an hour, and the delay of detection.

A false alarm is a predicted segment that overlaps no true segment of its class, or, with a tIoU threshold, one that
matches none (see `segment_matching`): then also the second alarm of one action, and one that is far too long.

The delay of a true segment is the time from its start to the end of the first window that overlaps it and whose
probability of the class reaches the threshold. A window's probability is known at its end, when its last frame has
been seen, so the delay is never 0. The time for computing is not included. The window may begin before the segment and
end after it. A true segment without such a window is missed; missed ones are counted, and are in no average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from farfield.evaluation.segment_arrays import Segments
from farfield.evaluation.segment_matching import match_segments


@dataclass(frozen=True)
class FalseAlarms:
    """False alarms in some hours of video.

    Attributes:
        counts: false alarms of each class.
        hours: length of all videos together.
    """

    counts: Int[np.ndarray, " classes"]
    hours: float

    @property
    def per_class(self) -> Float[np.ndarray, " classes"]:
        """False alarms of each class an hour."""
        return self.counts / self.hours

    @property
    def total(self) -> float:
        """False alarms of all classes an hour."""
        return float(self.counts.sum()) / self.hours


class ScoredWindows(NamedTuple):
    """Class probabilities of the windows of one video.

    Attributes:
        starts: start of each window in seconds, ascending.
        ends: end of each window in seconds, never earlier than the previous one's.
        probabilities: probability of each class in each window.
    """

    starts: Float[np.ndarray, " windows"]
    ends: Float[np.ndarray, " windows"]
    probabilities: Float[np.ndarray, "windows classes"]


class DelaySummary(NamedTuple):
    """Delays of some true segments. The numbers of seconds are NaN if none was detected.

    Attributes:
        detected: number of true segments that were detected.
        missed: number of those that were not.
        mean_seconds: mean delay of the detected ones.
        median_seconds: median delay of the detected ones.
        slow_seconds: delay that 90% of the detected ones do not exceed.
    """

    detected: int
    missed: int
    mean_seconds: float
    median_seconds: float
    slow_seconds: float

    @classmethod
    def of(cls, seconds: Float[np.ndarray, " n"]) -> DelaySummary:
        """Summarise delays, NaN for missed ones."""
        found = seconds[~np.isnan(seconds)]
        numbers = (math.nan,) * 3
        if len(found):
            numbers = (
                float(found.mean()),
                float(np.median(found)),
                float(np.quantile(found, 0.9, method="inverted_cdf")),
            )
        return cls(len(found), len(seconds) - len(found), *numbers)


@dataclass(frozen=True)
class DetectionDelays:
    """Delay of the detection of each true segment.

    Attributes:
        seconds: delay of each true segment, in the order that they were given in; NaN for missed ones.
        per_class: summary of each class.
        all: summary of all true segments.
    """

    seconds: Float[np.ndarray, " n"]
    per_class: list[DelaySummary]
    all: DelaySummary


def false_alarms_per_hour(
    truth: Segments, predicted: Segments, classes: int, hours: float, *, tiou: float | None = None
) -> FalseAlarms:
    """Count the false alarms of each class.

    Args:
        truth: true segments.
        predicted: predicted segments: those that are answers. Scores are needed with `tiou` only.
        classes: number of classes.
        hours: length of all videos together, also of those without segments.
        tiou: tIoU threshold from which on a predicted segment may match a true one; None if any overlap is enough.

    Raises:
        ValueError: if `hours` is not positive, or `tiou` is not above 0 and at most 1.
    """
    if not 0 < hours < math.inf:
        raise ValueError(f"hours is {hours}; it must be positive. Give the length of all videos together.")
    counts = np.zeros(classes, dtype=np.int64)
    for c in np.unique(predicted.classes).tolist():
        of_class, answers = truth.of_class(c), predicted.of_class(c)
        if tiou is None:
            right = overlaps_any(answers, of_class)
        else:
            right = match_segments(of_class, answers, [tiou]).matched[0]
        counts[c] = len(answers) - right.sum()
    return FalseAlarms(counts, hours)


def overlaps_any(segments: Segments, others: Segments) -> Bool[np.ndarray, " n"]:
    """Return whether each segment overlaps one of the others in its video. Segments that only touch do not.

    A segment without length overlaps those that it lies inside of, not those at whose bound it lies.
    """
    if not len(others):
        return np.zeros(len(segments), dtype=bool)
    # NumPy orders complex numbers by the real part, then by the imaginary one: here by video, then by time.
    order = np.argsort(others.videos + 1j * others.starts)
    latest_end = np.maximum.accumulate((others.videos + 1j * others.ends)[order])  # in the video so far
    last = np.searchsorted((others.videos + 1j * others.starts)[order], segments.videos + 1j * segments.ends) - 1
    found = latest_end[np.maximum(last, 0)]
    return (last >= 0) & (found.real == segments.videos) & (found.imag > segments.starts)


def detection_delays(
    truth: Segments, videos: Sequence[ScoredWindows], thresholds: Sequence[float | None]
) -> DetectionDelays:
    """Compute the delay with which each true segment is detected, in seconds.

    Args:
        truth: true segments.
        videos: windows of each video.
        thresholds: threshold of each class; None for a class that is never predicted.

    Raises:
        ValueError: if windows are not in order of their starts and ends.
    """
    seconds = np.full(len(truth), np.nan)
    for of_video, (starts, ends, probabilities) in zip(truth.rows_of_videos(len(videos)), videos, strict=True):
        if np.any(np.diff(starts) < 0) or np.any(np.diff(ends) < 0):
            raise ValueError("the windows of a video must be in order: no start and no end before the previous one's.")
        for c in np.unique(truth.classes[of_video]).tolist():
            threshold = thresholds[c]
            rows = of_video[truth.classes[of_video] == c]
            hot = probabilities[:, c].astype(float) >= (math.nan if threshold is None else threshold)
            seconds[rows] = _delays(truth.starts[rows], truth.ends[rows], starts[hot], ends[hot])
    by_class = [DelaySummary.of(seconds[truth.classes == c]) for c in range(len(thresholds))]
    return DetectionDelays(seconds, by_class, DelaySummary.of(seconds))


def _delays(
    onsets: Float[np.ndarray, " n"],
    offsets: Float[np.ndarray, " n"],
    starts: Float[np.ndarray, " windows"],
    ends: Float[np.ndarray, " windows"],
) -> Float[np.ndarray, " n"]:
    """Return the delay of each segment for windows over the threshold, in order; NaN if none overlaps it."""
    first = np.searchsorted(ends, onsets, side="right")  # ends after the onset
    known = np.append(ends, np.nan)[first] - onsets
    overlapping = np.append(starts, np.inf)[first] < offsets
    return np.where(overlapping, known, np.nan)
