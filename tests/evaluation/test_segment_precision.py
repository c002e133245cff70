from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farfield.evaluation import segment_precision
from farfield.evaluation.class_metrics import Resampling
from farfield.evaluation.resampling import resample_weights
from farfield.evaluation.segment_arrays import Segments, predicted_segments, true_segments
from farfield.evaluation.segment_matching import match_segments
from farfield.evaluation.segment_precision import (
    ACTIVITYNET_TIOUS,
    THUMOS_TIOUS,
    detection_average_precision,
    detection_map,
    detection_resampling,
    segment_precision_recall,
)
from farfield.timelines.segments import Segment
from reference.temporal_detection import Case, average_precision, matches, random_case

RECORDED = Path(__file__).with_name("temporal_detection.npz")
"""Average precision that MMAction2 and ActionFormer computed, see record_temporal_detection.py."""


def of(rows: dict[int, list[tuple]], *, scored: bool) -> Segments:
    """Segments from tuples of a video, start, end and, for predicted ones, score, by class."""
    flat = [(row[0], c, *row[1:]) for c, segments in rows.items() for row in segments]
    columns = np.array(flat, dtype=float).reshape(-1, 5 if scored else 4).T
    return Segments(*columns)


def arrays(case: Case) -> tuple[Segments, Segments, int]:
    return of(case.truth, scored=False), of(case.predicted, scored=True), len(case.predicted)


@pytest.mark.slow
def test_a_thousand_cases_are_those_of_mmaction2_and_actionformer() -> None:
    recorded = np.load(RECORDED)
    ends = np.cumsum(recorded["classes"])
    plain = 0
    for seed, end in enumerate(ends.tolist()):
        case = random_case(seed)
        truth, predicted, classes = arrays(case)
        ours = np.concatenate(
            [detection_average_precision(truth, predicted, classes, each) for each in (ACTIVITYNET_TIOUS, THUMOS_TIOUS)]
        )
        known = list(case.truth)
        theirs = recorded["mmaction2"][:, end - len(known) : end]
        np.testing.assert_allclose(ours[:, known], theirs, atol=1e-6, err_msg=f"seed {seed}")
        assert np.isnan(np.delete(ours, known, axis=1)).all()
        if case.plain:
            plain += 1
            np.testing.assert_allclose(np.nanmean(ours, 1), recorded["actionformer"][seed], atol=1e-6)
    assert len(ends) == 1000
    assert plain > 400
    assert 0.1 < recorded["mmaction2"].mean() < 0.9


times = st.integers(0, 12).map(float)
rows = st.lists(st.tuples(st.integers(0, 2), times, times, st.integers(0, 4).map(float)), max_size=9)


@settings(deadline=None)
@given(rows, rows, st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0]))
def test_matches_are_those_of_the_slow_loops(true: list, answers: list, least: float) -> None:
    """On a coarse grid: equal scores, equal and nested segments, equal tIoU, and segments without length."""
    wanted = [(video, min(a, b), max(a, b)) for video, a, b, _ in true]
    given_ = [(video, min(a, b), max(a, b), score) for video, a, b, score in answers]
    truth, predicted = of({0: wanted}, scored=False), of({0: given_}, scored=True)
    ranked = match_segments(truth, predicted, [least])
    assert ranked.matched[0].tolist() == matches(wanted, given_, least)
    if wanted:
        found = detection_average_precision(truth, predicted, 1, [least])
        assert found[0, 0] == pytest.approx(average_precision(wanted, given_, least))
    assert predicted.scores is not None
    assert (np.diff(predicted.scores[ranked.order]) <= 0).all()


@pytest.mark.parametrize(
    ("truth", "predicted", "wanted"),
    [
        # Two answers to one action: the second is wrong, but comes after all true ones.
        ([(0, 0, 10)], [(0, 0, 10, 0.9), (0, 0, 10, 0.8)], 1.0),
        ([(0, 0, 10), (0, 20, 30)], [(0, 0, 10, 0.9), (0, 0, 10, 0.8), (0, 20, 30, 0.7)], (1 + 2 / 3) / 2),
        # Duplicates in the truth count twice, and two answers find both.
        ([(0, 0, 10), (0, 0, 10)], [(0, 0, 10, 0.9)], 0.5),
        ([(0, 0, 10), (0, 0, 10)], [(0, 0, 10, 0.9), (0, 0, 10, 0.8)], 1.0),
        # Touching segments do not overlap, and one answer to two of them finds one, or none.
        ([(0, 0, 10), (0, 10, 20)], [(0, 0, 10, 0.9), (0, 10, 20, 0.8)], 1.0),
        ([(0, 0, 10)], [(0, 10, 20, 0.9)], 0.0),
        ([(0, 0, 12), (0, 12, 20)], [(0, 0, 20, 0.9)], 0.5),
        # An answer takes the best true segment that is left, even if that is not its best.
        ([(0, 0, 10), (0, 0, 13)], [(0, 0, 10, 0.9), (0, 0, 11, 0.8)], 1.0),
        # Of two true segments with an equal tIoU, an answer takes the later one, which the second answer may need.
        ([(0, 0, 8), (0, 4, 12)], [(0, 2, 10, 0.9), (0, 0, 8, 0.8)], 1.0),
        ([(0, 0, 8), (0, 4, 12)], [(0, 2, 10, 0.9), (0, 4, 12, 0.8)], 0.5),
        # No length.
        ([(0, 5, 5)], [(0, 0, 10, 0.9)], 0.0),
        ([(0, 0, 10)], [(0, 5, 5, 0.9)], 0.0),
        ([(0, 5, 5)], [(0, 5, 5, 0.9)], 0.0),
        # No answer, and an answer in another video.
        ([(0, 0, 10)], [], 0.0),
        ([(0, 0, 10)], [(1, 0, 10, 0.9)], 0.0),
        # A tIoU of exactly the threshold reaches it.
        ([(0, 0, 10)], [(0, 0, 5, 0.9)], 1.0),
        # The precision is interpolated: the second of two true positives lifts the first.
        ([(0, 0, 10), (0, 20, 30)], [(0, 50, 60, 0.9), (0, 0, 10, 0.8), (0, 20, 30, 0.7)], 2 / 3),
    ],
)
def test_corner_cases_by_hand(truth: list, predicted: list, wanted: float) -> None:
    found = detection_average_precision(of({0: truth}, scored=False), of({0: predicted}, scored=True), 1, [0.5])
    assert found.item() == pytest.approx(wanted)


def test_a_class_without_truth_is_in_no_mean() -> None:
    truth = of({0: [(0, 0, 10)], 2: [(1, 0, 10)]}, scored=False)
    predicted = of({0: [(0, 0, 10, 0.9)], 1: [(0, 0, 10, 0.8)]}, scored=True)
    found = detection_map(truth, predicted, 4)
    assert np.array_equal(
        found.average_precision, np.tile([1.0, math.nan, 0.0, math.nan], (len(ACTIVITYNET_TIOUS), 1)), equal_nan=True
    )
    assert [each.value for each in found.at_tiou] == [0.5] * 10
    assert found.mean.value == 0.5
    assert math.isnan(found.mean.low)
    counts = segment_precision_recall(truth, predicted, 4)
    assert counts.precision.per_class[0].value == counts.precision.macro.value == 1
    assert math.isnan(counts.precision.per_class[2].value)  # has a true segment, and none was predicted
    assert counts.f1.per_class[2].value == 0
    assert vars(counts.counts) == {
        "true_positives": [1, 0, 0, 0],
        "predicted": [1, 1, 0, 0],
        "positives": [1, 0, 1, 0],
    }
    assert math.isnan(counts.recall.per_class[1].value)
    assert (counts.precision.micro.value, counts.recall.micro.value) == (0.5, 0.5)
    nothing = detection_map(Segments([], [], [], []), predicted, 4)
    assert math.isnan(nothing.mean.value)


def test_equal_scores_keep_their_order() -> None:
    truth = of({0: [(0, 0, 10)]}, scored=False)
    for order, wanted in ((1, 1.0), (-1, 0.5)):
        answers = [(0, 0, 10, 0.5), (0, 50, 60, 0.5)][::order]
        assert detection_average_precision(truth, of({0: answers}, scored=True), 1, [0.5]).item() == wanted


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.permutations(range(4)))
def test_average_precision_knows_no_names_and_no_unit_of_time(seed: int, order: list[int]) -> None:
    """It is the same for renumbered videos and classes, times in minutes, and squared scores."""
    case = random_case(seed)
    truth, predicted, classes = arrays(case)
    before = detection_average_precision(truth, predicted, classes, [0.3, 0.7])
    swap = np.array(order)
    assert predicted.scores is not None
    truth_2 = Segments(swap[truth.videos], classes - 1 - truth.classes, truth.starts / 64, truth.ends / 64)
    predicted_2 = Segments(
        swap[predicted.videos],
        classes - 1 - predicted.classes,
        predicted.starts / 64,
        predicted.ends / 64,
        predicted.scores**2,
    )
    after = detection_average_precision(truth_2, predicted_2, classes, [0.3, 0.7])
    np.testing.assert_allclose(after[:, ::-1], before)


def test_resamples_are_those_of_copied_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals come from the shifted percentiles of average precisions of truly copied videos."""
    monkeypatch.setattr(segment_precision, "_ROWS", 7)
    cases = [random_case(seed) for seed in (0, 2, 5, 9, 10)]  # as five videos
    truth, predicted = (
        of(
            {c: [(v, *row[1:]) for v, case in enumerate(cases) for row in getattr(case, name)[c]] for c in (0, 1)},
            scored=name == "predicted",
        )
        for name in ("truth", "predicted")
    )
    videos, classes = 5, 3
    resampling = Resampling(torch.arange(videos), draws=40, seed=5)
    found = detection_map(truth, predicted, classes, [0.3, 0.5], resampling=resampling)
    drawn = []
    for column in itertools.chain.from_iterable(
        block.T for block in resample_weights(resampling.units, draws=40, seed=5)
    ):
        copies = [(v, k) for v in range(videos) for k in range(int(column[v]))]
        parts = []
        for segments in (truth, predicted):
            rows = np.concatenate([np.flatnonzero(segments.videos == v) for v, _ in copies])
            names = np.concatenate([np.full((segments.videos == v).sum(), i) for i, (v, _) in enumerate(copies)])
            chosen = segments.where(rows)
            parts.append(Segments(names, chosen.classes, chosen.starts, chosen.ends, chosen.scores))
        drawn.append(detection_average_precision(parts[0], parts[1], classes, [0.3, 0.5]))
    averages = np.nanmean(np.stack(drawn), axis=(1, 2))
    assert len(np.unique(averages)) > 20
    low, high = np.quantile(averages, [0.025, 0.975]) + found.mean.value - averages.mean()
    assert (found.mean.low, found.mean.high) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-6)
    of_class = np.stack(drawn)[:, :, 0].mean(1)
    low, high = np.nanquantile(of_class, [0.025, 0.975]) + found.per_class[0].value - np.nanmean(of_class)
    assert (found.per_class[0].low, found.per_class[0].high) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-6)


def test_precision_and_recall_have_intervals() -> None:
    truth = of({0: [(v, 0, 10) for v in range(20)], 1: [(0, 0, 10)]}, scored=False)
    predicted = of({0: [(v, 0, 10 if v % 4 else 2, 0.9) for v in range(16)]}, scored=True)
    resampling = detection_resampling(None, 20, truth, predicted)
    found = segment_precision_recall(truth, predicted, 2, resampling=resampling)
    assert found.precision.per_class[0].value == pytest.approx(12 / 16)
    assert found.recall.per_class[0].value == pytest.approx(12 / 20)
    assert found.f1.per_class[0].value == pytest.approx(24 / 36)
    assert found.recall.per_class[0].low < 0.5 < 0.7 < found.recall.per_class[0].high
    assert math.isnan(found.recall.per_class[1].low)  # all in one video
    assert found.recall.macro.value == pytest.approx(0.3)


def test_segments_are_collected_from_manifests_and_timelines() -> None:
    truth = true_segments(
        [[(1.0, math.inf, ("b", "a")), (2.0, 3.0, ())], [(9.0, 12.0, ("a",))]], ["a", "b"], [5.0, 9.0]
    )
    assert list(zip(truth.videos, truth.classes, truth.starts, truth.ends, strict=True)) == [(0, 1, 1, 5), (0, 0, 1, 5)]
    predicted = predicted_segments([[], [Segment(1.0, 2.0, "b", 0.9, 0.75)]], ["a", "b"])
    assert predicted.scores is not None
    assert [each.tolist() for each in (predicted.videos, predicted.classes, predicted.scores)] == [[1], [1], [0.75]]
    with pytest.raises(KeyError, match="c"):
        predicted_segments([[Segment(1.0, 2.0, "c", 0.9, 0.75)]], ["a", "b"])


def test_wrong_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        Segments([0], [0, 1], [0.0], [1.0])
    with pytest.raises(ValueError, match="or are not 1-D"):
        Segments([[0]], [[0]], [[0.0]], [[1.0]])
    with pytest.raises(ValueError, match="must be finite"):
        Segments([0], [0], [0.0], [math.inf])
    with pytest.raises(ValueError, match="ends before its start"):
        Segments([0], [0], [2.0], [1.0])
    with pytest.raises(ValueError, match="video or class is negative"):
        Segments([0], [-1], [0.0], [1.0])
    with pytest.raises(ValueError, match="have no scores"):
        match_segments(Segments([0], [0], [0], [1]), Segments([0], [0], [0], [1]), [0.5])
    with pytest.raises(ValueError, match="must be above 0"):
        match_segments(Segments([0], [0], [0], [1]), Segments([0], [0], [0], [1], [1]), [0.0])


def test_segments_in_one_video_of_many_give_no_interval() -> None:
    truth = Segments([3], [0], [1.0], [2.0])
    predicted = Segments([3, 4], [0, 0], [1.0, 1.0], [2.0, 2.0], [0.9, 0.5])
    found = detection_map(truth, predicted, 2, resampling=Resampling(torch.arange(12), draws=101))
    assert found.mean.value == 1
    assert all(math.isnan(each.low) for each in (found.mean, *found.at_tiou, *found.per_class))
