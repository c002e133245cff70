from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from farfield.errors import FarfieldError
from farfield.evaluation.frame_metrics import ScoredCells
from farfield.evaluation.segment_arrays import Segments, predicted_segments
from farfield.evaluation.segment_precision import detection_average_precision
from farfield.evaluation.threshold_choice import ThresholdRule
from farfield.evaluation.timeline_threshold_choice import EVEN_CANDIDATES, choose_timeline_thresholds
from farfield.timelines.segments import find_segments_of_each_class
from reference.temporal_detection import matches

LABELS = ["a", "b", "c"]
RULES = ["f1", "precision=0.6", "recall=0.7", "false_alarms_per_hour=60", "false_alarms_per_hour=0"]


def timelines(seed: int, videos: int = 4, cells: int = 30) -> tuple[list[ScoredCells], Segments]:
    """Cells of a second whose probabilities are higher inside the true segments of classes a and b; c has none."""
    rng = np.random.default_rng(seed)
    found, rows = [], []
    for video in range(videos):
        scores = rng.random((cells, len(LABELS)))
        for c in range(2):
            for start in rng.choice(np.arange(0, cells - 6, 7), 2, replace=False):
                end = start + rng.integers(2, 6)
                scores[start:end, c] += 0.8
                rows.append((video, c, start, end))
        found.append(ScoredCells(np.arange(cells + 1.0), np.round(scores / 1.8, 2)))
    return found, Segments(*np.array(rows, dtype=float).T)


def slow_counts(videos: list[ScoredCells], truth: Segments, c: int, threshold: float) -> tuple[int, int]:
    """Right and all predicted segments of a class: runs of cells at or above the threshold."""
    runs = []
    for video, (times, scores) in enumerate(videos):
        start = None
        for cell, over in enumerate([*(scores[:, c] >= threshold), False]):
            if over and start is None:
                start = cell
            elif not over and start is not None:
                runs.append((video, times[start], times[cell], scores[start:cell, c].mean()))
                start = None
    own = truth.of_class(c)
    true = list(zip(own.videos.tolist(), own.starts.tolist(), own.ends.tolist(), strict=True))
    return matches(true, runs, 0.5).count(True), len(runs)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("text", RULES)
def test_no_threshold_follows_the_rule_better(text: str, seed: int) -> None:
    """Every candidate is measured with slow loops."""
    videos, truth = timelines(seed)
    rule = ThresholdRule.parse(text)
    point = choose_timeline_thresholds(videos, truth, LABELS, rule, max_probabilities=1000)
    assert (point.rule, point.validation_videos) == (text, 4)
    assert point.thresholds["c"] is None
    hours = 4 * 30 / 3600
    for c, label in enumerate("ab"):
        quality = {}
        scores = np.concatenate([each.probabilities[:, c] for each in videos])
        candidates = sorted({*scores.tolist(), *(each for each in EVEN_CANDIDATES if each < scores.max())})
        for threshold in candidates:
            hits, answers = slow_counts(videos, truth, c, threshold)
            precision, recall, alarms = hits / max(answers, 1), hits / 8, answers - hits
            ways = {
                "f1": (True, 2 * hits / (answers + 8), -alarms),
                "precision": (precision >= (rule.value or 0), recall, -alarms),
                "recall": (recall >= (rule.value or 0), precision, recall),
                "false_alarms_per_hour": (alarms / hours <= (rule.value or 0), recall, -alarms),
            }
            allowed, *best = ways[rule.kind]
            if allowed and hits:
                quality[threshold] = tuple(round(each, 9) for each in best)
        equal = {each for each in quality if quality[each] == max(quality.values())}
        chosen = point.thresholds[label]
        assert chosen == middle_of_widest(candidates, equal)
        assert point.detections is not None
        assert point.detections[label] == (None if chosen is None else slow_counts(videos, truth, c, chosen)[1])


def middle_of_widest(candidates: list[float], equal: set[float]) -> float | None:
    """Return the middle candidate, by slow loops over all pairs with no other candidate between them."""
    found = (0.0, 0.0, None)
    for low in equal:
        for high in equal:
            between = [each for each in candidates if low <= each <= high]
            if between and set(between) <= equal:
                nearest = min(between, key=lambda each: (abs(each - (low + high) / 2), each))
                found = max(found, (high - low, high, nearest), key=lambda each: each[:2])
    return found[2]


def test_bounds_of_easily_found_segments_are_right() -> None:
    """Probabilities rise and fall over two seconds around each border, as those of windows of two seconds.

    Any threshold finds all segments at a tIoU of 0.5, the highest ones far too short.
    """
    rng = np.random.default_rng(0)
    videos, rows = [], []
    times = np.arange(601) / 10
    middles = (times[:-1] + times[1:]) / 2
    for video in range(5):
        starts = np.arange(5, 55, 10) + rng.uniform(-1, 1, 5)
        ends = starts + rng.uniform(3.5, 6, 5)
        rows += [(video, 0, start, end) for start, end in zip(starts, ends, strict=True)]
        share = sum(
            np.clip(np.minimum(middles + 1, end) - np.maximum(middles - 1, start), 0, 2) / 2
            for start, end in zip(starts, ends, strict=True)
        )
        noisy = np.clip(0.02 + 0.96 * share + rng.uniform(-0.02, 0.02, len(middles)), 0, 1)
        videos.append(ScoredCells(times, noisy[:, None]))
    truth = Segments(*np.array(rows).T)
    chosen = choose_timeline_thresholds(videos, truth, ["a"], ThresholdRule("f1")).thresholds["a"]
    assert chosen is not None

    def average_precision(threshold: float, tiou: float) -> float:
        found = [find_segments_of_each_class(*each, ["a"], np.array([threshold])) for each in videos]
        return float(detection_average_precision(truth, predicted_segments(found, ["a"]), 1, [tiou])[0, 0])

    assert average_precision(0.9, 0.5) == average_precision(chosen, 0.5) == 1
    assert average_precision(0.9, 0.95) < 0.1
    assert average_precision(chosen, 0.95) > 0.9


def test_a_range_without_probabilities_has_candidates() -> None:
    videos = [ScoredCells(np.arange(6.0), np.array([[0.02, 0.98, 0.97, 0.02, 0.01]]).T)]
    truth = Segments([0], [0], [1.0], [3.0])
    assert choose_timeline_thresholds(videos, truth, ["a"], ThresholdRule("f1")).thresholds == {"a": pytest.approx(0.5)}


@pytest.mark.slow
def test_few_candidates_are_nearly_as_good() -> None:
    videos, truth = timelines(3, videos=30)
    rule = ThresholdRule("f1")
    every = choose_timeline_thresholds(videos, truth, LABELS, rule, max_probabilities=1000).thresholds
    few = choose_timeline_thresholds(videos, truth, LABELS, rule, max_probabilities=20).thresholds
    for c, label in enumerate("ab"):
        f1 = []
        for chosen in (every[label], few[label]):
            assert chosen is not None
            hits, answers = slow_counts(videos, truth, c, chosen)
            f1.append(2 * hits / (answers + len(truth.of_class(c))))
        assert f1[0] - 0.05 < f1[1] <= f1[0]
        assert f1[0] > 0.5


def test_segments_are_found_with_the_given_options() -> None:
    """A minimum length of 2 s removes the single cells that are false alarms otherwise."""
    videos = [ScoredCells(np.arange(11.0), np.array([[0.9, 0, 0.9, 0, 0.6, 0.7, 0.6, 0, 0.9, 0]]).T)]
    truth = Segments([0], [0], [4.0], [7.0])
    rule = ThresholdRule("precision", 1.0)
    assert choose_timeline_thresholds(videos, truth, ["a"], rule).thresholds == {"a": None}
    find = functools.partial(find_segments_of_each_class, min_seconds=2.0)
    assert choose_timeline_thresholds(videos, truth, ["a"], rule, find=find).thresholds == {"a": pytest.approx(0.35)}


def test_of_equal_precision_the_highest_recall_is_taken() -> None:
    videos = [ScoredCells(np.arange(6.0), np.array([[0.9, 0.1, 0.5, 0.1, 0.1]]).T)]
    truth = Segments([0, 0], [0, 0], [0.0, 2.0], [1.0, 3.0])
    assert choose_timeline_thresholds(videos, truth, ["a"], ThresholdRule("recall", 0.5)).thresholds == {
        "a": pytest.approx(0.35)
    }


def test_nothing_to_choose_from_is_said() -> None:
    videos, truth = timelines(0)
    with pytest.raises(FarfieldError, match="no validation video has a labelled segment"):
        choose_timeline_thresholds(videos, truth.where(truth.classes > 5), LABELS, ThresholdRule("f1"))
    videos[1].probabilities[3, 1] = math.nan
    with pytest.raises(FarfieldError, match="NaN or infinite"):
        choose_timeline_thresholds(videos, truth, LABELS, ThresholdRule("f1"))
    outside = Segments([0], [0], [100.0], [110.0])
    assert set(choose_timeline_thresholds(videos[:1], outside, LABELS, ThresholdRule("f1")).thresholds.values()) == {
        None
    }
