"""Segments of a timeline: runs of neighbouring cells (short time intervals) of the same class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Segment:
    """One action and its time span, the half-open interval [start, end).

    Attributes:
        start_seconds: start of the action.
        end_seconds: end of the action.
        label: class of the action.
        probability: average probability of the class over the segment.
        score: confidence by which segments are ranked; the probability, unless the timeline's options lower it.
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
    min_seconds: float = 0.0,
    threshold: float | Float[np.ndarray, " k"] = 0.0,
) -> list[Segment]:
    """Merge neighbouring cells of the same class into segments.

    Args:
        times: bounds of the cells in seconds.
        cells: class probabilities of each cell.
        labels: class names.
        min_seconds: minimum length of a segment. Shorter segments are merged, the shortest first, into the neighbouring
            segment whose class is more probable during the short segment. A short segment with gaps or the video's
            bounds on both sides is dropped.
        threshold: minimum probability of a cell's best class, one number or one per class. Cells below it form gaps
            between segments.
    """
    min_seconds -= 1e-6  # times are sums of parts, which are rounded
    best = cells.argmax(1)
    chosen = np.where(cells.max(1) >= np.broadcast_to(threshold, len(labels))[best], best, -1)
    edges = np.array([0, *(np.flatnonzero(np.diff(chosen)) + 1), len(chosen)])
    chosen = chosen[edges[:-1]]  # of each run of cells from one edge to the next
    while len(chosen) > 1:
        spans = np.where(chosen >= 0, np.diff(times[edges]), np.inf)
        shortest = int(spans.argmin())
        if spans[shortest] >= min_seconds:
            break
        here = cells[edges[shortest] : edges[shortest + 1]].mean(0)
        beside = [int(chosen[at]) for at in (shortest - 1, shortest + 1) if 0 <= at < len(chosen)]
        known = [label for label in beside if label >= 0]
        chosen[shortest] = max(known, key=lambda label: here[label]) if known else -1
        joined = np.flatnonzero(np.diff(chosen) == 0) + 1
        edges, chosen = np.delete(edges, joined), np.delete(chosen, joined)
    return [
        _segment(times, cells, labels, label, start, stop)
        for label, (start, stop) in zip(chosen.tolist(), pairwise(edges.tolist()), strict=True)
        if label >= 0 and times[stop] - times[start] >= min_seconds
    ]


def find_segments_of_each_class(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells k"],
    labels: list[str],
    thresholds: Float[np.ndarray, " k"],
    *,
    min_seconds: float = 0.0,
) -> list[Segment]:
    """Find the runs of cells in which a class reaches its threshold, for each class by itself.

    Args:
        times: bounds of the cells in seconds.
        cells: class probabilities of each cell, which need not sum to 1.
        labels: class names.
        thresholds: minimum probability of each class.
        min_seconds: minimum length of a segment. Shorter segments are dropped.

    Returns:
        Segments in order of their starts, equal ones in the order of the classes. Those of different classes may
        overlap.
    """
    outside = np.zeros((1, cells.shape[1]), bool)
    steps = np.diff(np.concatenate([outside, cells >= thresholds, outside]).astype(np.int8), axis=0)
    starts, stops = np.argwhere(steps.T == 1), np.argwhere(steps.T == -1)  # (class, cell), class by class
    runs = sorted(
        (start, label, stop) for (label, start), (_, stop) in zip(starts.tolist(), stops.tolist(), strict=True)
    )
    return [
        _segment(times, cells, labels, label, start, stop)
        for start, label, stop in runs
        if times[stop] - times[start] >= min_seconds - 1e-6  # times are sums of parts, which are rounded
    ]


def _segment(times: np.ndarray, cells: np.ndarray, labels: list[str], label: int, start: int, stop: int) -> Segment:
    """Build the segment of a class from cell `start` to before cell `stop`."""
    probability = float(np.average(cells[start:stop, label], weights=np.diff(times[start : stop + 1])))
    return Segment(float(times[start]), float(times[stop]), labels[label], probability, probability)
