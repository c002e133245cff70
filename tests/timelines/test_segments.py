"""Hysteresis, gaps and lengths of segments, against loops over the cells one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farfield.timelines.hysteresis import hold
from farfield.timelines.segments import Segment, find_segments, find_segments_of_each_class

LABELS = ["run", "wave", "sit"]
LEVELS = [0.0, 0.2, 0.3, 0.5, 0.6, 0.9]
"""Probabilities that are often equal to each other and to thresholds."""
SECONDS = [0.0, 0.5, 1.0, 1.5, 3.0, 100.0]

lengths = st.lists(st.sampled_from([0.5, 1.0, 1.5]), min_size=1, max_size=14)
per_class = st.lists(st.sampled_from(SECONDS), min_size=3, max_size=3)
draws = st.randoms(use_true_random=False)


def table(draw: object, cells: int) -> np.ndarray:
    return np.array([[draw.choice(LEVELS) for _ in LABELS] for _ in range(cells)])  # type: ignore[attr-defined]


def mean(times: np.ndarray, cells: np.ndarray, label: int, first: int, end: int) -> float:
    seconds = [times[i + 1] - times[i] for i in range(first, end)]
    return sum(cells[i, label] * s for i, s in zip(range(first, end), seconds, strict=True)) / sum(seconds)


def same(found: list[Segment], expected: list[tuple[int, int, int]], times: np.ndarray, cells: np.ndarray) -> None:
    """Compare segments with (first cell, class, end) of the expected ones, in this order."""
    assert [(each.start_seconds, each.end_seconds, each.label) for each in found] == [
        (times[first], times[end], LABELS[label]) for first, label, end in expected
    ]
    probabilities = [mean(times, cells, label, first, end) for first, label, end in expected]
    assert [each.probability for each in found] == pytest.approx(probabilities)
    assert [each.score for each in found] == [each.probability for each in found]


def runs_one_by_one(on: list[bool]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for cell, inside in enumerate(on):
        if inside and runs and runs[-1][1] == cell:
            runs[-1] = (runs[-1][0], cell + 1)
        elif inside:
            runs.append((cell, cell + 1))
    return runs


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(lengths=lengths, draw=draws, least=per_class, gaps=per_class, share=st.sampled_from([1.0, 0.5, 0.4]))
def test_each_class_is_as_cell_by_cell(lengths, draw, least, gaps, share) -> None:  # type: ignore[no-untyped-def]
    times = np.concatenate([[2.0], 2.0 + np.cumsum(lengths)])
    cells, thresholds = table(draw, len(lengths)), np.array([0.5, 0.6, 0.2])
    expected = []
    for label in range(3):
        on, state = [], False
        for cell in range(len(lengths)):
            p, threshold = cells[cell, label], thresholds[label]
            state = bool(p >= threshold or (state and p >= share * threshold))
            on.append(state)
        closed: list[tuple[int, int]] = []
        for first, end in runs_one_by_one(on):
            if closed and gaps[label] > 0 and times[first] - times[closed[-1][1]] <= gaps[label]:
                closed[-1] = (closed[-1][0], end)
            else:
                closed.append((first, end))
        expected += [(first, label, end) for first, end in closed if times[end] - times[first] >= least[label]]
    found = find_segments_of_each_class(
        times,
        cells,
        LABELS,
        thresholds,
        min_seconds=np.array(least),
        hysteresis=share,
        max_gap_seconds=np.array(gaps),
    )
    same(found, sorted(expected), times, cells)


def merge_one_by_one(
    times: np.ndarray, cells: np.ndarray, chosen: list[int], least: list[float]
) -> list[tuple[int, int, int]]:
    """Give each cell of the shortest segment that is too short to a neighbour, until there is none."""

    def runs() -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        for cell, label in enumerate(chosen):
            if found and found[-1][1] == label:
                found[-1] = (found[-1][0], label, cell + 1)
            else:
                found.append((cell, label, cell + 1))
        return found

    while True:
        now = runs()
        short = [
            (times[end] - times[first], at)
            for at, (first, label, end) in enumerate(now)
            if label >= 0 and times[end] - times[first] < least[label]
        ]
        if not short or len(now) == 1:
            return [run for run in now if run[1] >= 0 and times[run[2]] - times[run[0]] >= least[run[1]]]
        at = min(short)[1]
        first, _, end = now[at]
        best, best_mean = -1, -1.0
        for neighbour in (at - 1, at + 1):
            if 0 <= neighbour < len(now) and now[neighbour][1] >= 0:
                own = cells[first:end, now[neighbour][1]].mean()
                if own > best_mean:
                    best, best_mean = now[neighbour][1], own
        chosen[first:end] = [best] * (end - first)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(lengths=lengths, draw=draws, least=per_class, gaps=per_class, share=st.sampled_from([1.0, 0.5, 0.4]))
def test_the_best_class_is_as_cell_by_cell(lengths, draw, least, gaps, share) -> None:  # type: ignore[no-untyped-def]
    times = np.concatenate([[2.0], 2.0 + np.cumsum(lengths)])
    cells, thresholds = table(draw, len(lengths)), [0.5, 0.6, 0.3]
    chosen: list[int] = []
    for row in cells:
        best = max(range(3), key=lambda label: row[label])  # of equal ones the first
        lasts = bool(chosen) and chosen[-1] == best and row[best] >= share * thresholds[best]
        chosen.append(best if row[best] >= thresholds[best] or lasts else -1)
    for label in range(3):
        own = [cell for cell, each in enumerate(chosen) if each == label]
        for before, after in pairwise(own):
            between = chosen[before + 1 : after]
            if between and gaps[label] > 0 and set(between) == {-1} and times[after] - times[before + 1] <= gaps[label]:
                chosen[before + 1 : after] = [label] * len(between)
    found = find_segments(
        times,
        cells,
        LABELS,
        min_seconds=np.array(least),
        threshold=np.array(thresholds),
        hysteresis=share,
        max_gap_seconds=np.array(gaps),
    )
    same(found, merge_one_by_one(times, cells, chosen, least), times, cells)


def test_a_state_starts_and_lasts() -> None:
    starts = np.array([0, 1, 0, 0, 0, 0, 1, 0], bool)
    lasts = np.array([1, 0, 1, 1, 0, 1, 0, 1], bool)
    assert hold(starts, lasts).tolist() == [False, True, True, True, False, False, True, True]
    both = hold(np.stack([starts, ~starts], 1), np.stack([lasts, ~lasts], 1))
    np.testing.assert_array_equal(both[:, 0], hold(starts, lasts))
    np.testing.assert_array_equal(both[:, 1], hold(~starts, ~lasts))


def test_the_edges_of_a_timeline() -> None:
    nothing = np.zeros((0, 3))
    assert find_segments(np.array([0.0]), nothing, LABELS) == []
    assert find_segments_of_each_class(np.array([0.0]), nothing, LABELS, np.full(3, 0.5)) == []
    one = np.array([[0.5, 0.2, 0.3]])
    [found] = find_segments(np.array([1.0, 3.0]), one, LABELS, threshold=0.5, hysteresis=0.5, max_gap_seconds=2)
    assert found == Segment(1.0, 3.0, "run", 0.5, 0.5)
    above = np.full((4, 3), 0.7)
    times = np.arange(5.0)
    whole = find_segments_of_each_class(times, above, LABELS, np.full(3, 0.7), hysteresis=0.5, max_gap_seconds=1)
    assert [(each.label, each.start_seconds, each.end_seconds) for each in whole] == [(each, 0, 4) for each in LABELS]


def test_a_gap_of_the_greatest_length_is_closed() -> None:
    """1.0 s in tenths, of which floating point makes more."""
    times = np.arange(31) / 10
    cells = np.where(np.isin(np.arange(30), range(12, 22)), 0.1, 0.9)[:, None]
    assert times[22] - times[12] > 1
    assert len(find_segments_of_each_class(times, cells, ["run"], np.array([0.5]), max_gap_seconds=1)) == 1
    assert len(find_segments(times, cells, ["run"], threshold=0.5, max_gap_seconds=1)) == 1
    assert len(find_segments_of_each_class(times, cells, ["run"], np.array([0.5]), max_gap_seconds=0.9)) == 2


def test_a_gap_in_which_another_class_happens_stays() -> None:
    cells = np.array([[0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3], [0.8, 0.1, 0.1]])
    found = find_segments(np.arange(6.0), cells, LABELS, threshold=0.5, max_gap_seconds=10)
    assert [(each.label, each.start_seconds) for each in found] == [("run", 0), ("wave", 2), ("run", 4)]
    found = find_segments_of_each_class(np.arange(6.0), cells, LABELS, np.full(3, 0.5), max_gap_seconds=10)
    assert [(each.label, each.start_seconds, each.end_seconds) for each in found] == [("run", 0, 5), ("wave", 2, 3)]
