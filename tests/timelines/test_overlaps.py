"""Candidates at several levels, soft-NMS and weighted fusion, against slow loops and recorded results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farfield.timelines.candidates import ClassOverTime, find_candidates, merge_candidates, suppress_overlaps
from farfield.timelines.overlaps import MERGE_OVERLAP, merge_overlapping, soft_nms, temporal_iou
from farfield.timelines.segments import find_segments_of_each_class

LABELS = ["run", "wave"]

STARTS = [0.51, 0.52, 0.33, 0.22, 0.13, 0.23, 0.26, 0.37, 0.44]
ENDS = [0.61, 0.63, 0.61, 0.35, 0.53, 0.58, 0.37, 0.64, 0.72]
SCORES = [0.01, 0.18, 0.16, 0.46, 0.57, 0.45, 0.92, 0.81, 0.4]


def test_scores_and_averages_are_those_of_ensemble_boxes() -> None:
    """Recorded with ensemble-boxes 1.0.9: `soft_nms` (method 2, sigma 0.5), `weighted_boxes_fusion_1d` of 5 models."""
    starts, ends, scores = np.array(STARTS), np.array(ENDS), np.array(SCORES)
    lowered = [0.001379, 0.094777, 0.007942, 0.181268, 0.402437, 0.058418, 0.92, 0.81, 0.198714]
    np.testing.assert_allclose(soft_nms(starts, ends, scores, 0.5), lowered, atol=1e-6)
    np.testing.assert_array_equal(scores, SCORES)
    first, last, fused = merge_overlapping(starts, ends, scores, 5)
    order = np.argsort(-fused)
    bounds = [[0.246667, 0.363333], [0.385766, 0.659854], [0.174118, 0.552059], [0.519474, 0.628947]]
    np.testing.assert_allclose(np.stack([first, last], 1)[order], bounds, atol=1e-6)
    np.testing.assert_allclose(fused[order], [0.276, 0.274, 0.204, 0.038], atol=1e-6)


def iou(one: tuple[float, float], other: tuple[float, float]) -> float:
    common = max(min(one[1], other[1]) - max(one[0], other[0]), 0.0)
    return common / ((one[1] - one[0]) + (other[1] - other[0]) - common)


spans = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 8), st.sampled_from([0.0, 0.25, 0.5, 0.5001, 0.9, 1.0])), max_size=12
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(spans=spans, sigma=st.sampled_from([0.1, 0.5, 2.0]))
def test_soft_nms_is_the_papers_loop(spans, sigma) -> None:  # type: ignore[no-untyped-def]
    """Figure 2 of Bodla et al., with the Gaussian of eq. 3, one candidate at a time."""
    expected, waiting = {}, {i: float(score) for i, (_, _, score) in enumerate(spans)}
    while waiting:
        best = max(waiting, key=lambda i: (waiting[i], -i))
        expected[best] = waiting.pop(best)
        for i in waiting:
            one, other = ((spans[k][0], spans[k][0] + spans[k][1]) for k in (best, i))
            waiting[i] *= math.exp(-(iou(one, other) ** 2) / sigma)
    starts = np.array([each[0] for each in spans], float)
    ends = starts + [each[1] for each in spans]
    found = soft_nms(starts, ends, np.array([each[2] for each in spans], float), sigma)
    assert found.tolist() == pytest.approx([expected[i] for i in range(len(spans))], rel=1e-9)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(spans=spans, levels=st.integers(1, 12))
def test_fusion_is_the_papers_loop(spans, levels) -> None:  # type: ignore[no-untyped-def]
    """Section 3 of Solovyev et al., one candidate at a time."""
    groups: list[list[tuple[float, float, float]]] = []

    def average(group: list[tuple[float, float, float]]) -> tuple[float, float]:
        weights = [max(score, 1e-9) for _, _, score in group]
        total = sum(weights)
        low, high = (sum(w * each[k] for w, each in zip(weights, group, strict=True)) / total for k in (0, 1))
        return low, high

    for start, length, score in sorted(spans, key=lambda each: -each[2]):
        one = (float(start), float(start + length), float(score))
        overlaps = [iou(one[:2], average(group)) for group in groups]
        if overlaps and max(overlaps) > MERGE_OVERLAP:
            groups[overlaps.index(max(overlaps))].append(one)
        else:
            groups.append([one])
    starts = np.array([each[0] for each in spans], float)
    ends = starts + [each[1] for each in spans]
    first, last, scores = merge_overlapping(starts, ends, np.array([each[2] for each in spans], float), levels)
    assert [*zip(first.tolist(), last.tolist(), strict=True)] == [pytest.approx(average(each)) for each in groups]
    shares = [min(len(each), levels) / levels for each in groups]
    means = [sum(score for _, _, score in each) / len(each) for each in groups]
    assert scores.tolist() == pytest.approx([m * s for m, s in zip(means, shares, strict=True)])


def test_of_equal_candidates_the_first_keeps_its_score() -> None:
    found = soft_nms(np.zeros(3), np.ones(3), np.full(3, 0.8), 0.5)
    assert found.tolist() == pytest.approx([0.8, 0.8 * math.exp(-2), 0.8 * math.exp(-4)])
    assert temporal_iou(0.0, 1.0, np.array([0.0, 1.0, 0.5]), np.array([1.0, 2.0, 1.5])).tolist() == [1, 0, 1 / 3]


def test_candidates_with_a_lesser_overlap_stay_apart() -> None:
    starts, scores = np.zeros(2), np.array([0.9, 0.8])
    assert len(merge_overlapping(starts, np.array([20.0, 11.0]), scores, 2)[0]) == 2  # a tIoU of exactly 0.55
    assert len(merge_overlapping(starts, np.array([20.0, 11.5]), scores, 2)[0]) == 1


def test_candidates_inside_a_long_one_are_lowered_by_it() -> None:
    """Two peaks on a plateau: neither overlaps the other, both overlap the plateau, which comes first."""
    p = np.array([0.0, 0.5, 0.9, 0.5, 0.5, 0.9, 0.5, 0.0, 0.0])
    times, cells = np.arange(10.0), p[:, None]
    candidates = find_candidates(times, cells, np.array([0.8]), num_levels=2)
    assert candidates.tolist() == [[0, 1, 7], [0, 2, 3], [0, 5, 6]]
    whole, *peaks = suppress_overlaps(times, cells, ["run"], candidates, sigma=0.5)
    assert whole.score == pytest.approx(3.8 / 6)
    assert [each.score for each in peaks] == pytest.approx([0.4 * math.exp(-(1 / 36) / 0.5)] * 2)


def test_a_class_over_time_is_averaged_over_any_span() -> None:
    times = np.array([1.0, 1.5, 3.0, 4.0, 6.5])
    probabilities = np.array([0.1, 0.9, 0.6, 0.25])
    line = ClassOverTime(times, probabilities)

    def slowly(start: float, end: float) -> float:
        moments = start + (np.arange(20_000) + 0.5) / 20_000 * (end - start)
        return float(probabilities[np.searchsorted(times, moments, side="right") - 1].mean())

    for start, end in ((1.0, 6.5), (1.2, 3.7), (3.0, 4.0), (1.0, 1.1), (5.0, 6.5)):
        one, other = np.array([start]), np.array([end])
        assert line.mean(one, other)[0] == pytest.approx(slowly(start, end), abs=1e-3)
        flank = (end - start) / 4
        left, right = max(start - flank, 1.0), min(end + flank, 6.5)
        outside = [slowly(*each) * (each[1] - each[0]) for each in ((left, start), (end, right)) if each[1] > each[0]]
        around = sum(outside) / max((start - left) + (right - end), 1e-9)
        expected = max(slowly(start, end) - around, 0.0)
        assert line.contrast(one, other)[0] == pytest.approx(expected, abs=1e-3)


def hill() -> tuple[np.ndarray, np.ndarray]:
    """One class with a hill from 0.2 over 0.8 and 1.0 down, and one that never reaches a threshold of 0.5."""
    run = [0.05, 0.05, 0.3, 0.8, 1.0, 0.8, 0.3, 0.05, 0.05, 0.05]
    return np.arange(11.0), np.stack([run, np.full(10, 0.4)], 1)


def test_candidates_are_runs_at_levels_up_to_the_threshold() -> None:
    times, cells = hill()
    found = find_candidates(times, cells, np.array([0.8, 0.5]), num_levels=4)  # levels 0.2, 0.4, 0.6 and 0.8
    assert found.tolist() == [[0, 2, 7], [0, 3, 6], [0, 3, 6], [0, 3, 6]]
    wide = find_candidates(times, cells, np.array([0.8, 0.5]), num_levels=4, min_seconds=np.array([4.0, 0.0]))
    assert wide.tolist() == [[0, 2, 7]]
    assert find_candidates(times, cells, np.array([0.8, 0.4]), num_levels=1, hysteresis=0.3).tolist() == [
        *([0, 3, 7], [1, 0, 10])
    ]
    assert find_candidates(times, cells, np.array([1.01, 0.5]), num_levels=4).tolist() == []
    assert find_candidates(np.zeros(1), np.zeros((0, 2)), np.full(2, 0.5), num_levels=4).tolist() == []


def test_the_extent_with_the_strongest_contrast_is_ranked_first() -> None:
    times, cells = hill()
    candidates = find_candidates(times, cells, np.array([0.8, 0.5]), num_levels=4)
    wide, narrow = suppress_overlaps(times, cells, LABELS, candidates, sigma=0.5)
    assert (wide.start_seconds, wide.end_seconds, narrow.start_seconds, narrow.end_seconds) == (2, 7, 3, 6)
    assert wide.probability == pytest.approx(3.2 / 5)
    assert wide.score == pytest.approx(3.2 / 5 - 0.05)  # flanks of 1.25 s
    assert narrow.score == pytest.approx((2.6 / 3 - 0.3) * math.exp(-(0.6**2) / 0.5))
    assert narrow.probability == pytest.approx(2.6 / 3)


def test_the_average_is_found_at_most_levels() -> None:
    times, cells = hill()
    candidates = find_candidates(times, cells, np.array([0.8, 0.5]), num_levels=4)
    [merged] = merge_candidates(times, cells, LABELS, candidates, num_levels=4)
    wide, narrow = 3.2 / 5 - 0.05, 2.6 / 3 - 0.3
    weights = wide + 3 * narrow
    assert merged.start_seconds == pytest.approx((2 * wide + 3 * 3 * narrow) / weights)
    assert merged.end_seconds == pytest.approx((7 * wide + 6 * 3 * narrow) / weights)
    assert merged.score == pytest.approx(weights / 4)
    sides = merged.end_seconds - 6 + 3 - merged.start_seconds
    assert merged.probability == pytest.approx((2.6 + 0.3 * sides) / (3 + sides))


@pytest.mark.parametrize("method", [suppress_overlaps, merge_candidates])
def test_the_edges_of_a_timeline(method) -> None:  # type: ignore[no-untyped-def]
    options = {"sigma": 0.5} if method is suppress_overlaps else {"num_levels": 5}
    for cells, expected in (
        (np.full((1, 2), 0.7), [(label, 0.0, 1.0, 0.7) for label in LABELS]),  # no flanks
        (np.full((6, 2), 0.7), [(label, 0.0, 6.0, 0.7) for label in LABELS]),
        (np.full((6, 2), 0.3), []),
        (np.zeros((6, 2)), []),
    ):
        times = np.arange(len(cells) + 1.0)
        found = method(times, cells, LABELS, find_candidates(times, cells, np.full(2, 0.5), num_levels=5), **options)
        assert [(each.label, each.start_seconds, each.end_seconds) for each in found] == [each[:3] for each in expected]
        assert [each.score for each in found] == pytest.approx([each[3] for each in expected])
        assert [each.probability for each in found] == pytest.approx([each[3] for each in expected])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), levels=st.integers(1, 12), method=st.sampled_from(["soft_nms", "merge"]))
def test_segments_cover_what_reaches_the_threshold_and_are_in_order(seed, levels, method) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    times = np.concatenate([[0.0], np.cumsum(rng.choice([0.1, 1.0, 3.0], 25))])
    cells, thresholds = rng.choice([0.0, 0.2, 0.5, 0.6, 1.0], (25, 2)), np.array([0.5, 0.6])
    candidates = find_candidates(times, cells, thresholds, num_levels=levels)
    if method == "soft_nms":
        found = suppress_overlaps(times, cells, LABELS, candidates, sigma=0.5)
    else:
        found = merge_candidates(times, cells, LABELS, candidates, num_levels=levels)
    keys = [(each.start_seconds, LABELS.index(each.label), each.end_seconds) for each in found]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) or method == "merge"
    assert all(0 <= each.score <= 1 and 0 <= each.probability <= 1 for each in found)
    single = find_segments_of_each_class(times, cells, LABELS, thresholds)
    for each in single:  # each action is still there
        assert any(
            one.label == each.label and one.start_seconds < each.end_seconds and each.start_seconds < one.end_seconds
            for one in found
        )
    if method == "soft_nms":
        assert {(each.label, each.start_seconds, each.end_seconds) for each in single} <= {
            (each.label, each.start_seconds, each.end_seconds) for each in found
        }
        if levels == 1:
            assert [(each.label, each.start_seconds) for each in found] == [
                (each.label, each.start_seconds) for each in single
            ]


def noisy_actions(seed: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Probabilities of a class in 400 cells with actions in noise, of which many stay below 0.7 for a part."""
    rng = np.random.default_rng(seed)
    logits, truth, at = np.full(400, -2.5), [], int(rng.integers(10, 40))
    while at + 42 < 400:
        length = int(rng.integers(4, 40))
        truth.append((at, at + length))
        logits[at : at + length] += rng.uniform(2.5, 5.5)
        at += length + int(rng.integers(10, 40))
    logits = np.convolve(np.pad(logits, 2, mode="edge"), np.full(5, 0.2), "valid")
    logits += np.convolve(rng.normal(0, 2, 402), np.full(3, 1 / 3), "valid")
    return 1 / (1 + np.exp(-logits)), truth


@pytest.mark.parametrize("method", ["soft_nms", "merge"])
def test_levels_find_extents_that_a_high_threshold_misses(method: str) -> None:
    """The share of actions whose best-ranked segment has a tIoU of 0.5 with it, at a threshold that is too high."""
    hits, plain, total = 0, 0, 0
    for seed in range(10):
        p, truth = noisy_actions(seed)
        times, cells, thresholds = np.arange(401.0), p[:, None], np.array([0.7])
        candidates = find_candidates(times, cells, thresholds, num_levels=10)
        if method == "soft_nms":
            found = suppress_overlaps(times, cells, ["run"], candidates, sigma=0.5)
        else:
            found = merge_candidates(times, cells, ["run"], candidates, num_levels=10)
        single = find_segments_of_each_class(times, cells, ["run"], thresholds)
        for one in truth:
            total += 1
            for segments in (found, single):
                near = [each for each in segments if iou(one, (each.start_seconds, each.end_seconds)) > 0]
                best = max(near, key=lambda each: each.score, default=None)
                hit = best is not None and iou(one, (best.start_seconds, best.end_seconds)) >= 0.5
                hits, plain = hits + (hit and segments is found), plain + (hit and segments is single)
    assert hits / total > 0.65  # 0.81 with soft-NMS, 0.71 merged
    assert plain / total < 0.4  # 0.31
