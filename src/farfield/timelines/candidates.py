"""Candidate segments at several levels of probability, as in weakly supervised temporal action localisation.

The length of a segment depends on the threshold. A high threshold finds only the most certain part of an action. A low
threshold includes frames around the action, or joins two actions. Therefore candidates are found at several thresholds
(levels), and each gets a score: the outer-inner contrast of AutoLoc (Shou et al., ECCV 2018). Candidates of a class
that overlap are handled in one of two ways: `suppress_overlaps` lowers the score of each that overlaps a better one;
`merge_candidates` averages those that overlap enough. CoLA (Zhang et al., CVPR 2021) and others also apply several
thresholds and non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from farfield.timelines.hysteresis import hold
from farfield.timelines.overlaps import merge_overlapping, soft_nms
from farfield.timelines.segments import TOLERANCE_SECONDS, Segment, class_runs

FLANK_SHARE = 0.25
"""Time on each side of a candidate that `contrast` uses, as a share of the candidate's length; AutoLoc's value."""


def find_candidates(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells k"],
    thresholds: Float[np.ndarray, " k"],
    *,
    num_levels: int,
    hysteresis: float = 1.0,
    min_seconds: float | Float[np.ndarray, " k"] = 0.0,
    max_gap_seconds: float | Float[np.ndarray, " k"] = 0.0,
) -> Int[np.ndarray, "candidates 3"]:
    """Find the runs of cells in which a class reaches a level: 1/n, 2/n, ..., or n/n of its threshold.

    A run is a candidate only if the class reaches its full threshold somewhere in the run. Lower levels thus change
    where an action starts and ends, but not whether the action is found.

    Args:
        times: bounds of the cells (short time intervals) in seconds.
        cells: class probabilities of each cell.
        thresholds: minimum probability of each class.
        num_levels: n, the number of levels.
        hysteresis: once a class has reached a level, its run lasts as long as its probability is at least this share of
            the level.
        min_seconds: minimum length of a candidate, a number for all classes or one for each class.
        max_gap_seconds: at each level, two runs of a class are joined if the gap between them is at most this long; a
            number for all classes or one for each class.

    Returns:
        A row for each candidate: index of the class, first cell, and the cell after the last one. Rows are sorted by
        these three numbers. A run that is found at several levels has several rows.
    """
    found = []
    for level in np.arange(1, num_levels + 1) / num_levels:
        limits = thresholds * level
        on = hold(cells >= limits, cells >= hysteresis * limits)
        found.append(class_runs(times, on, min_seconds=min_seconds, max_gap_seconds=max_gap_seconds))
    runs = np.concatenate(found)
    label, start, stop = runs.T
    reached = np.concatenate([np.zeros((1, cells.shape[1]), int), np.cumsum(cells >= thresholds, axis=0)])
    runs = runs[reached[stop, label] > reached[start, label]]
    return runs[np.lexsort(runs.T[::-1])]


class ClassOverTime:
    """The probability of one class over time. It can be averaged over any time span.

    Args:
        times: bounds of the cells in seconds.
        probabilities: probability of the class in each cell.
    """

    def __init__(self, times: Float[np.ndarray, " cells+1"], probabilities: Float[np.ndarray, " cells"]) -> None:
        self.times = times
        self.sums = np.concatenate([[0.0], np.cumsum(probabilities * np.diff(times))])

    def integral(self, start: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the integral of the probability from each `start` to its `end` (in seconds)."""
        low, high = (np.interp(each, self.times, self.sums) for each in (start, end))
        return high - low

    def mean(self, start: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the mean probability from each `start` to its `end` (in seconds), clipped to [0, 1]."""
        return np.clip(self.integral(start, end) / (end - start), 0.0, 1.0)

    def contrast(self, start: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the mean probability from each `start` to its `end` minus the mean around this span, at least 0.

        The mean around a span is taken over the time just before and just after the span, on each side for a quarter
        of the span's length (`FLANK_SHARE`). Time outside of the video does not count; if no time is left, the result
        is the mean inside the span. The mean inside the span alone would not be a good score: it is highest for the
        shortest candidate, at the peak of an action.
        """
        flank = FLANK_SHARE * (end - start)
        left, right = np.maximum(start - flank, self.times[0]), np.minimum(end + flank, self.times[-1])
        seconds = (start - left) + (right - end)
        outside = self.integral(left, start) + self.integral(end, right)
        exists = seconds > TOLERANCE_SECONDS
        around = np.where(exists, outside / np.where(exists, seconds, 1.0), 0.0)
        return np.maximum(self.mean(start, end) - around, 0.0)


def suppress_overlaps(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells k"],
    labels: list[str],
    candidates: Int[np.ndarray, "candidates 3"],
    *,
    sigma: float,
) -> list[Segment]:
    """Convert candidates to segments, and lower the scores of segments that overlap better ones of the same class.

    A segment's score is its contrast (see `ClassOverTime.contrast`), lowered by `soft_nms`. Duplicate candidates are
    removed first.

    Args:
        times: bounds of the cells (short time intervals) in seconds.
        cells: class probabilities of each cell.
        labels: class names.
        candidates: rows from `find_candidates`.
        sigma: width of the Gaussian of `soft_nms`.

    Returns:
        Segments, sorted by start, class and end.
    """
    found: list[_Row] = []
    for label, start, end in _by_class(times, np.unique(candidates, axis=0)):
        line = ClassOverTime(times, cells[:, label])
        scores = line.contrast(start, end)
        for group in _overlapping(start, end):
            scores[group] = soft_nms(start[group], end[group], scores[group], sigma)
        found += _rows(line, label, start, end, scores)
    return _to_segments(found, labels)


def merge_candidates(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells k"],
    labels: list[str],
    candidates: Int[np.ndarray, "candidates 3"],
    *,
    num_levels: int,
) -> list[Segment]:
    """Average overlapping candidates of the same class into segments, see `merge_overlapping`.

    The average is weighted by the candidates' contrast (see `ClassOverTime.contrast`).

    Args:
        times: bounds of the cells (short time intervals) in seconds.
        cells: class probabilities of each cell.
        labels: class names.
        candidates: rows from `find_candidates`.
        num_levels: number of levels that `find_candidates` used.

    Returns:
        Segments, sorted by start, class and end.
    """
    found: list[_Row] = []
    for label, start, end in _by_class(times, candidates):
        line = ClassOverTime(times, cells[:, label])
        scores = line.contrast(start, end)
        for group in _overlapping(start, end):
            found += _rows(line, label, *merge_overlapping(start[group], end[group], scores[group], num_levels))
    return _to_segments(found, labels)


_Row = tuple[float, int, float, float, float]
"""Start, class, end, probability and score of a segment."""


def _by_class(
    times: Float[np.ndarray, " cells+1"], candidates: Int[np.ndarray, "candidates 3"]
) -> Iterator[tuple[int, Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
    """For each class that has candidates, yield (index of the class, starts, ends), with the times in seconds."""
    for label in np.unique(candidates[:, 0]).tolist():
        own = candidates[candidates[:, 0] == label]
        yield label, times[own[:, 1]], times[own[:, 2]]


def _overlapping(start: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]) -> list[slice]:
    """Divide candidates into groups, so that candidates of different groups do not overlap.

    The candidates must be sorted by start.
    """
    firsts = np.flatnonzero(start[1:] >= np.maximum.accumulate(end)[:-1]) + 1
    return [slice(low, high) for low, high in pairwise([0, *firsts.tolist(), len(start)])]


def _rows(
    line: ClassOverTime,
    label: int,
    start: Float[np.ndarray, " n"],
    end: Float[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
) -> list[_Row]:
    """Make a `_Row` for each segment of one class, with the mean of `line` in the segment as its probability."""
    columns = (each.tolist() for each in (start, end, line.mean(start, end), scores))
    return [(begin, label, stop, probability, score) for begin, stop, probability, score in zip(*columns, strict=True)]


def _to_segments(found: list[_Row], labels: list[str]) -> list[Segment]:
    """Convert rows to segments, sorted by start, class and end."""
    return [
        Segment(start, end, labels[label], probability, score)
        for start, label, end, probability, score in sorted(found)
    ]
