from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farfield.evaluation.alarms import (
    DelaySummary,
    ScoredWindows,
    detection_delays,
    false_alarms_per_hour,
    overlaps_any,
)
from farfield.evaluation.segment_arrays import Segments
from reference.temporal_detection import matches

times = st.integers(0, 12)
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), times, times), max_size=9)


def of(given_: list, *, scored: bool = False) -> Segments:
    flat = [(v, c, min(a, b), max(a, b), i) for i, (v, c, a, b) in enumerate(given_)]
    columns = np.array(flat, dtype=float).reshape(-1, 5).T
    return Segments(*(columns if scored else columns[:4]))


def slow_delay(true: tuple, windows: list[tuple[int, int]], hot: list[bool]) -> float:
    """Walk through time: at the end of each window, see whether it is over the threshold and overlaps the segment."""
    _, _, start, end = true
    for (first, last), over in sorted(zip(windows, hot, strict=True), key=lambda each: each[0][1]):
        if over and first < end and last > start:
            return last - start
    return math.nan


@settings(deadline=None)
@given(rows, rows)
def test_false_alarms_are_those_of_the_slow_loops(true: list, answers: list) -> None:
    truth, predicted = of(true), of(answers, scored=True)
    wanted = [0, 0]
    strict = [0, 0]
    for v, c, a, b in answers:
        a, b = min(a, b), max(a, b)
        others = [(min(x, y), max(x, y)) for w, d, x, y in true if (w, d) == (v, c)]
        wanted[c] += not any(x < b and y > a for x, y in others)
    for c in range(2):
        trues = [(v, min(a, b), max(a, b)) for v, d, a, b in true if d == c]
        scored = [(v, min(a, b), max(a, b), i) for i, (v, d, a, b) in enumerate(answers) if d == c]
        strict[c] = matches(trues, scored, 0.5).count(False)
    found = false_alarms_per_hour(truth, predicted, 2, 0.5)
    assert found.counts.tolist() == wanted
    assert found.per_class.tolist() == [2 * each for each in wanted]
    assert found.total == 2 * sum(wanted)
    assert false_alarms_per_hour(truth, predicted, 2, 0.5, tiou=0.5).counts.tolist() == strict


def test_what_a_false_alarm_is() -> None:
    truth = of([(0, 0, 10, 20)])
    touching, inside, twice, point = (
        of([(0, 0, 0, 10)]),
        of([(0, 0, 12, 13)]),
        of([(0, 0, 10, 15)] * 2),
        of([(0, 0, 15, 15)]),
    )
    assert [overlaps_any(each, truth).all() for each in (touching, inside, twice, point)] == [False, True, True, True]
    other_video, other_class = of([(1, 0, 10, 20)]), of([(0, 1, 10, 20)])
    assert not overlaps_any(other_video, truth).any()
    assert false_alarms_per_hour(truth, other_class, 2, 2.0).per_class.tolist() == [0, 0.5]
    for hours in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="must be positive"):
            false_alarms_per_hour(truth, other_class, 2, hours)


@settings(deadline=None)
@given(rows, st.lists(st.integers(0, 5), min_size=3, max_size=3), st.integers(1, 5), st.integers(1, 3), st.data())
def test_delays_are_those_of_the_slow_loop(
    true: list, hops: list[int], span: int, hop: int, data: st.DataObject
) -> None:
    videos, thresholds = [], [0.5, 0.25]
    for count in hops:
        starts = np.arange(count) * hop
        ends = np.minimum(starts + span, 11)  # the last windows end with the video
        keep = ends > starts
        scores = data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), min_size=2 * count, max_size=2 * count))
        probabilities = np.array(scores).reshape(count, 2)
        videos.append(ScoredWindows(starts[keep].astype(float), ends[keep].astype(float), probabilities[keep]))
    found = detection_delays(of(true), videos, thresholds)
    for seconds, (v, c, a, b) in zip(found.seconds, true, strict=True):
        windows = list(zip(videos[v].starts, videos[v].ends, strict=True))
        hot = [score >= thresholds[c] for score in videos[v].probabilities[:, c]]
        wanted = slow_delay((v, c, min(a, b), max(a, b)), windows, hot)
        assert seconds == pytest.approx(wanted, nan_ok=True)
        assert not seconds <= 0
    assert found.all.missed == np.isnan(found.seconds).sum()
    assert sum(each.detected for each in found.per_class) == found.all.detected


def test_a_window_counts_at_its_end_and_missed_ones_are_counted() -> None:
    """Windows of 2 s every second; those from 4 s on are over the threshold."""
    starts = np.arange(9.0)
    windows = ScoredWindows(starts, starts + 2, (starts >= 4)[:, None] * np.array([[0.5, 0.4, 0.9]]))
    truth = of([(0, 0, 5, 7), (0, 0, 1, 8), (0, 0, 0, 4), (0, 1, 5, 7), (0, 2, 5, 7)])
    found = detection_delays(truth, [windows], [0.5, 0.5, None])
    assert found.seconds[:2].tolist() == [1.0, 5.0]
    assert np.isnan(found.seconds[2:]).all()
    assert found.per_class[0] == DelaySummary(2, 1, 3.0, 3.0, 5.0)
    assert found.per_class[2][:2] == (0, 1)
    assert found.all[:2] == (2, 3)
    assert math.isnan(found.per_class[1].median_seconds)
    with pytest.raises(ValueError, match="must be in order"):
        detection_delays(truth, [ScoredWindows(starts[::-1], starts[::-1], np.zeros((9, 3)))], [0.5] * 3)
