"""Segments of a timeline: runs of neighbouring cells (short time intervals) of the same class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from farfield.timelines.hysteresis import hold

TOLERANCE_SECONDS = 1e-6
"""Tolerance for comparing lengths of time, because times are rounded sums."""


@dataclass(frozen=True)
class Segment:
    """One action and its time span, the half-open interval [start, end).

    Attributes:
        start_seconds: start of the action.
        end_seconds: end of the action.
        label: class of the action.
        probability: average probability of the class over the segment.
        score: number in [0, 1] by which segments are ranked. It is the probability if `TimelineOptions.overlaps` is
            "none".
    """

    start_seconds: float
    end_seconds: float
    label: str
    probability: float
    score: float


def find_segments(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells k"],
    labels: list[str],
    *,
    min_seconds: float | Float[np.ndarray, " k"] = 0.0,
    threshold: float | Float[np.ndarray, " k"] = 0.0,
    hysteresis: float = 1.0,
    max_gap_seconds: float | Float[np.ndarray, " k"] = 0.0,
) -> list[Segment]:
    """Merge neighbouring cells of the same class into segments. A cell belongs to its most probable class, or to none.

    Args:
        times: bounds of the cells (short time intervals) in seconds.
        cells: class probabilities of each cell.
        labels: class names.
        min_seconds: minimum length of a segment, a number for all classes or one for each class. Shorter segments are
            merged, the shortest first, into a segment that adjoins them without a gap. If there is one on each side,
            the one whose class is more probable during the short segment is chosen. If there is none, the short segment
            is dropped.
        threshold: minimum probability of a cell's most probable class, a number for all classes or one for each class.
            Cells below it form gaps between segments, unless `hysteresis` or `max_gap_seconds` adds them to a segment.
        hysteresis: share of a class's threshold at which a run of cells of this class ends, above 0 and at most 1. A
            run starts where the most probable class reaches its threshold. The run lasts as long as this class remains
            the most probable and its probability is at least this share of its threshold.
        max_gap_seconds: two segments of the same class are joined if the gap between them is at most this long; a
            number for all classes or one for each class. Gaps are closed before short segments are merged.
    """
    if len(cells) == 0:
        return []
    least, thresholds, closed = (
        np.broadcast_to(np.asarray(each, dtype=float), len(labels))
        for each in (min_seconds, threshold, max_gap_seconds)
    )
    best, highest = cells.argmax(1), cells.max(1)
    same = np.diff(best, prepend=-1) == 0
    on = hold(highest >= thresholds[best], same & (highest >= hysteresis * thresholds[best]))
    chosen = np.where(on, best, -1)
    edges = np.array([0, *(np.flatnonzero(np.diff(chosen)) + 1), len(chosen)])
    chosen = chosen[edges[:-1]]  # of each run of cells from one edge to the next
    edges, chosen = _close_gaps(times, edges, chosen, closed)
    least = least - TOLERANCE_SECONDS
    edges, chosen = _merge_short_runs(times, cells, edges, chosen, least)
    return [
        make_segment(times, cells, labels, label, start, stop)
        for label, (start, stop) in zip(chosen.tolist(), pairwise(edges.tolist()), strict=True)
        if label >= 0 and times[stop] - times[start] >= least[label]
    ]


def _merge_short_runs(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells k"],
    edges: Int[np.ndarray, " runs+1"],
    chosen: Int[np.ndarray, " runs"],
    least: Float[np.ndarray, " k"],
) -> tuple[Int[np.ndarray, " _+1"], Int[np.ndarray, " _"]]:
    """Merge each short run of a class into a neighbouring run, the shortest first. Gaps may have any length.

    If only one of a short run's neighbours has a class (is not a gap), the short run joins it. If both have one, it
    joins the neighbour whose class is more probable during the short run. If neither has one, the short run becomes a
    gap. A run without any neighbour stays, even if it is short.

    Args:
        times: bounds of the cells in seconds.
        cells: class probabilities of each cell.
        edges: first cell of each run, followed by the number of cells.
        chosen: class of each run; -1 for a gap.
        least: minimum length of a run of each class, in seconds.

    Returns:
        `edges` and `chosen` of the runs after merging.
    """
    chosen = chosen.copy()
    while len(chosen) > 1:
        seconds = np.diff(times[edges])
        spans = np.where((chosen >= 0) & (seconds < least[chosen]), seconds, np.inf)
        shortest = int(spans.argmin())
        if np.isinf(spans[shortest]):
            break
        here = cells[edges[shortest] : edges[shortest + 1]].mean(0)
        beside = [int(chosen[at]) for at in (shortest - 1, shortest + 1) if 0 <= at < len(chosen)]
        known = [label for label in beside if label >= 0]
        chosen[shortest] = max(known, key=lambda label: here[label]) if known else -1
        edges, chosen = _join_equal_runs(edges, chosen)
    return edges, chosen


def _close_gaps(
    times: Float[np.ndarray, " cells+1"],
    edges: Int[np.ndarray, " runs+1"],
    chosen: Int[np.ndarray, " runs"],
    max_gap_seconds: Float[np.ndarray, " k"],
) -> tuple[Int[np.ndarray, " _+1"], Int[np.ndarray, " _"]]:
    """Close short gaps between two runs of the same class, by assigning the gaps to this class.

    Args:
        times: bounds of the cells in seconds.
        edges: first cell of each run, followed by the number of cells.
        chosen: class of each run; -1 for a gap.
        max_gap_seconds: maximum length of a gap that is closed, for each class.

    Returns:
        `edges` and `chosen` of the runs after the gaps are closed.
    """
    before, after = chosen[:-2], chosen[2:]
    limits = max_gap_seconds[before]  # where `before` is a gap, the run between is none
    short = (limits > 0) & (np.diff(times[edges])[1:-1] <= limits + TOLERANCE_SECONDS)
    chosen = chosen.copy()
    chosen[1:-1] = np.where((chosen[1:-1] < 0) & (before == after) & short, before, chosen[1:-1])
    return _join_equal_runs(edges, chosen)


def _join_equal_runs(
    edges: Int[np.ndarray, " runs+1"], chosen: Int[np.ndarray, " runs"]
) -> tuple[Int[np.ndarray, " _+1"], Int[np.ndarray, " _"]]:
    """Join neighbouring runs of the same class.

    Args:
        edges: first cell of each run, followed by the number of cells.
        chosen: class of each run; -1 for a gap.

    Returns:
        `edges` and `chosen` of the joined runs.
    """
    joined = np.flatnonzero(np.diff(chosen) == 0) + 1
    return np.delete(edges, joined), np.delete(chosen, joined)


def find_segments_of_each_class(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells k"],
    labels: list[str],
    thresholds: Float[np.ndarray, " k"],
    *,
    min_seconds: float | Float[np.ndarray, " k"] = 0.0,
    hysteresis: float = 1.0,
    max_gap_seconds: float | Float[np.ndarray, " k"] = 0.0,
) -> list[Segment]:
    """Find the segments of each class separately: runs of cells in which the class's probability reaches its threshold.

    Args:
        times: bounds of the cells (short time intervals) in seconds.
        cells: class probabilities of each cell, which need not sum to 1.
        labels: class names.
        thresholds: minimum probability of each class.
        min_seconds: minimum length of a segment, a number for all classes or one for each class. Shorter segments are
            dropped.
        hysteresis: share of a class's threshold at which a run of this class ends, above 0 and at most 1. A run starts
            where the class's probability reaches the threshold. It ends before the first cell in which the probability
            is below this share of the threshold.
        max_gap_seconds: two segments of a class are joined if the gap between them is at most this long; a number for
            all classes or one for each class. Gaps are closed before short segments are dropped.

    Returns:
        Segments in order of their starts, then of the classes. Segments of different classes may overlap.
    """
    on = hold(cells >= thresholds, cells >= hysteresis * thresholds)
    runs = class_runs(times, on, min_seconds=min_seconds, max_gap_seconds=max_gap_seconds)
    return [
        make_segment(times, cells, labels, label, start, stop)
        for start, label, stop in sorted((start, label, stop) for label, start, stop in runs.tolist())
    ]


def class_runs(
    times: Float[np.ndarray, " cells+1"],
    on: Bool[np.ndarray, "cells k"],
    *,
    min_seconds: float | Float[np.ndarray, " k"] = 0.0,
    max_gap_seconds: float | Float[np.ndarray, " k"] = 0.0,
) -> Int[np.ndarray, "runs 3"]:
    """Return each class's runs of cells in which `on` is True, as rows (class, first cell, cell after the last one).

    First, gaps of a class up to `max_gap_seconds` are closed. Then, runs shorter than `min_seconds` are dropped. Rows
    are sorted by class.
    """
    least, closed = (np.broadcast_to(np.asarray(each), on.shape[1]) for each in (min_seconds, max_gap_seconds))
    outside = np.zeros((1, on.shape[1]), bool)
    steps = np.diff(np.concatenate([outside, on, outside]).astype(np.int8), axis=0).T
    label, start = np.nonzero(steps == 1)
    stop = np.nonzero(steps == -1)[1]
    gaps = times[start[1:]] - times[stop[:-1]]
    limits = closed[label[1:]]
    parted = (label[1:] != label[:-1]) | (limits == 0) | (gaps > limits + TOLERANCE_SECONDS)
    begins, ends = np.ones(len(start), bool), np.ones(len(start), bool)
    begins[1:] = ends[:-1] = parted
    label, start, stop = label[begins], start[begins], stop[ends]
    long_enough = times[stop] - times[start] >= least[label] - TOLERANCE_SECONDS
    return np.stack([label, start, stop], 1)[long_enough]


def make_segment(times: np.ndarray, cells: np.ndarray, labels: list[str], label: int, start: int, stop: int) -> Segment:
    """Build a segment from cell `start` to cell `stop` (excluded). Its score is its probability.

    `label` is the index of the class in `labels`.
    """
    probability = float(np.average(cells[start:stop, label], weights=np.diff(times[start : stop + 1])))
    return Segment(float(times[start]), float(times[stop]), labels[label], probability, probability)
