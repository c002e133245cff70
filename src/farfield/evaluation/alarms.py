"""Metrics of timelines that are used for alarms: false alarms per hour, and the delay of detection.

A false alarm is a predicted segment that overlaps no true segment of its class. If a threshold of temporal intersection
over union (tIoU) is given, a false alarm is instead a predicted segment that matches no true segment (see
`segment_matching`). Then a second alarm for the same action, or an alarm that is far too long, is a false alarm, too.

A true segment is detected by the first window that overlaps it and whose probability of the segment's class reaches
the threshold of this class. The delay is the time from the start of the segment to the end of this window. A window's
probability is known at its end, when its last frame has been seen, so the delay is never 0. The time for computing is
not included. The window may begin before the segment and end after it. A true segment without such a window is missed.
Missed segments are counted, and left out of the averages.
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
    """Number of false alarms of each class, and the length of the videos in which they were counted.

    Attributes:
        counts: number of false alarms of each class.
        hours: length of all videos together.
    """

    counts: Int[np.ndarray, " classes"]
    hours: float

    @property
    def per_class(self) -> Float[np.ndarray, " classes"]:
        """False alarms per hour, for each class."""
        return self.counts / self.hours

    @property
    def total(self) -> float:
        """False alarms per hour, of all classes together."""
        return float(self.counts.sum()) / self.hours


class ScoredWindows(NamedTuple):
    """Class probabilities of the windows of one video.

    Attributes:
        starts: start of each window in seconds, ascending.
        ends: end of each window in seconds, never earlier than the end of the previous window.
        probabilities: probability of each class in each window.
    """

    starts: Float[np.ndarray, " windows"]
    ends: Float[np.ndarray, " windows"]
    probabilities: Float[np.ndarray, "windows classes"]


class DelaySummary(NamedTuple):
    """Summary of the detection delays of a set of true segments. Delays are NaN if no segment was detected.

    Attributes:
        detected: number of true segments that were detected.
        missed: number of true segments that were not detected.
        mean_seconds: mean delay of the detected segments.
        median_seconds: median delay of the detected segments.
        slow_seconds: 90th percentile of the delays of the detected segments.
    """

    detected: int
    missed: int
    mean_seconds: float
    median_seconds: float
    slow_seconds: float

    @classmethod
    def of(cls, seconds: Float[np.ndarray, " n"]) -> DelaySummary:
        """Summarise delays in seconds. NaN stands for a missed segment."""
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
    """Detection delay of each true segment (time from its start until it is detected), and summaries of the delays.

    Attributes:
        seconds: delay of each true segment, in the order of the segments; NaN for a missed segment.
        per_class: summary of the delays of each class.
        all: summary of the delays of all true segments.
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
        predicted: predicted segments, each of which counts as an alarm. Leave out segments whose score is too low for
            an alarm. Scores are needed only if `tiou` is given.
        classes: number of classes.
        hours: length of all videos together, including videos without segments.
        tiou: minimum tIoU at which a predicted segment matches a true one. With None, any overlap is enough.

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
    """Return whether each segment overlaps one of `others` in its video. Segments that only touch do not overlap.

    A segment of length 0 overlaps another segment only if it lies strictly inside the other one.
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
    """Compute the time in seconds from the start of each true segment until it is detected.

    Args:
        truth: true segments.
        videos: windows of each video.
        thresholds: threshold of each class; None for a class that is never predicted.

    Raises:
        ValueError: if the starts or the ends of a video's windows are not ascending.
    """
    seconds = np.full(len(truth), np.nan)
    for of_video, (starts, ends, probabilities) in zip(truth.rows_of_videos(len(videos)), videos, strict=True):
        if np.any(np.diff(starts) < 0) or np.any(np.diff(ends) < 0):
            raise ValueError("the windows of a video must be in order: starts and ends must not decrease. Sort them.")
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
    """Return the time in seconds from each segment's onset to the end of the first window that overlaps the segment.

    The time is NaN for a segment that no window overlaps.

    Args:
        onsets: start of each segment.
        offsets: end of each segment.
        starts: start of each window that reaches the threshold, in order of time.
        ends: end of each of these windows.
    """
    first = np.searchsorted(ends, onsets, side="right")  # ends after the onset
    known = np.append(ends, np.nan)[first] - onsets
    overlapping = np.append(starts, np.inf)[first] < offsets
    return np.where(overlapping, known, np.nan)
