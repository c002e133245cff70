"""Candidate segments at several levels of probability, as in weakly supervised temporal action localisation.

With a single threshold, the length of a segment depends on it. A high threshold finds only the most certain part of an
action. A low one includes frames around the action, or joins two actions. Therefore candidates are found at several
levels, and a score chooses among them. The score is the outer-inner contrast of AutoLoc (Shou et al., ECCV 2018). CoLA
(Zhang et al., CVPR 2021) and others also apply several thresholds and non-maximum suppression.
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
"""Length of each flank of a candidate as a share of the candidate's length, AutoLoc's value."""


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

    A run in which the class never reaches the full threshold is no candidate. So lower levels change where an action
    starts and ends, but not whether it is found.

    Args:
        times: bounds of the cells in seconds.
        cells: class probabilities of each cell.
        thresholds: minimum probability of each class.
        num_levels: n, the number of levels.
        hysteresis: see `find_segments_of_each_class`; here a share of each level.
        min_seconds: minimum length of a candidate, one number or one per class.
        max_gap_seconds: length up to which gaps are closed at each level, one number or one per class.

    Returns:
        A row (class, first cell, end cell (excluded)) for each candidate, sorted. A run that is found at several levels
        has several rows.
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
    """The probability of one class over time, to average it over any time span.

    Args:
        times: bounds of the cells in seconds.
        probabilities: probability of the class in each cell.
    """

    def __init__(self, times: Float[np.ndarray, " cells+1"], probabilities: Float[np.ndarray, " cells"]) -> None:
        self.times = times
        self.sums = np.concatenate([[0.0], np.cumsum(probabilities * np.diff(times))])

    def integral(self, start: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the integral of the probability over each time span, in seconds."""
        low, high = (np.interp(each, self.times, self.sums) for each in (start, end))
        return high - low

    def mean(self, start: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the mean probability over each time span, clipped to [0, 1] against rounding."""
        return np.clip(self.integral(start, end) / (end - start), 0.0, 1.0)

    def contrast(self, start: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the mean probability inside each time span minus the mean in its two flanks, at least 0.

        The flanks are the time just before and after the span, and are cut at the video's start and end. If nothing of
        them is left, the result is the mean inside. The mean inside alone would be highest for the shortest candidate,
        the peak of an action.
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
    """Turn candidates into segments, and lower the scores of overlapping ones of the same class by `soft_nms`.

    Scores start as the contrast of each candidate. Duplicates are removed. Segments are sorted by start, class and end.
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
    """Average overlapping candidates of the same class, weighted by their contrast, see `merge_overlapping`.

    Segments are sorted by start, class and end.
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
    """Yield each class that has candidates, and the candidates' starts and ends in seconds."""
    for label in np.unique(candidates[:, 0]).tolist():
        own = candidates[candidates[:, 0] == label]
        yield label, times[own[:, 1]], times[own[:, 2]]


def _overlapping(start: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]) -> list[slice]:
    """Divide candidates, sorted by start, into groups. Candidates of different groups do not overlap."""
    firsts = np.flatnonzero(start[1:] >= np.maximum.accumulate(end)[:-1]) + 1
    return [slice(low, high) for low, high in pairwise([0, *firsts.tolist(), len(start)])]


def _rows(
    line: ClassOverTime,
    label: int,
    start: Float[np.ndarray, " n"],
    end: Float[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
) -> list[_Row]:
    """Return the rows of the segments of one class."""
    columns = (each.tolist() for each in (start, end, line.mean(start, end), scores))
    return [(begin, label, stop, probability, score) for begin, stop, probability, score in zip(*columns, strict=True)]


def _to_segments(found: list[_Row], labels: list[str]) -> list[Segment]:
    """Turn rows into segments, sorted by start, class and end."""
    return [
        Segment(start, end, labels[label], probability, score)
        for start, label, end, probability, score in sorted(found)
    ]
