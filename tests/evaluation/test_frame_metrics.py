from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from farfield.evaluation.class_metrics import Resampling
from farfield.evaluation.frame_metrics import FrameSampling, ScoredCells, frame_accuracy, frame_map, frame_resampling
from farfield.evaluation.resampling import resample_weights
from farfield.evaluation.segment_arrays import Segments
from reference.temporal_detection import charades_average_precision

CLASSES, VIDEOS = 3, 5


def timelines(seed: int, *, levels: int | None = None) -> tuple[list[ScoredCells], Segments]:
    """Random cells and true segments on a grid of 1/16 s, so that fine samples are exact."""
    rng = np.random.default_rng(seed)
    videos, rows = [], []
    for video in range(VIDEOS):
        times = np.unique(rng.integers(0, 16 * 20, 24)) / 16
        scores = rng.random((len(times) - 1, CLASSES))
        videos.append(ScoredCells(times, scores if levels is None else np.round(scores * levels) / levels))
        for c in range(CLASSES):
            for _ in range(rng.integers(1, 4)):
                start, end = np.sort(rng.integers(0, 16 * 22, 2)) / 16
                rows.append((video, c, start, end))
    return videos, Segments(*np.array(rows).T)


def every_sample(videos: list[ScoredCells], truth: Segments, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slow: scores, targets and videos of the moments in the middle of each `step` seconds."""
    scores, targets, owners = [], [], []
    for video, (times, probabilities) in enumerate(videos):
        for cell, (first, last) in enumerate(itertools.pairwise(times)):
            for moment in np.arange(first, last, step) + step / 2:
                positive = [False] * CLASSES
                for v, c, start, end in zip(truth.videos, truth.classes, truth.starts, truth.ends, strict=True):
                    positive[c] |= bool(v == video and start <= moment < end)
                scores.append(probabilities[cell])
                targets.append(positive)
                owners.append(video)
    return np.array(scores), np.array(targets), np.array(owners)


@pytest.mark.parametrize("levels", [None, 6])
def test_frame_map_is_scikit_learns_at_every_moment(levels: int | None) -> None:
    videos, truth = timelines(1, levels=levels)
    scores, targets, _ = every_sample(videos, truth, 1 / 16)
    found = frame_map(videos, truth)
    wanted = [average_precision_score(targets[:, c], scores[:, c]) for c in range(CLASSES)]
    assert [each.value for each in found.per_class] == pytest.approx(wanted)
    assert found.macro.value == pytest.approx(np.mean(wanted))
    assert found.micro.value == pytest.approx(average_precision_score(targets.ravel(), scores.ravel()))
    assert 0.1 < found.macro.value < 0.9


def test_frames_of_charades() -> None:
    """As Charades_v1_localize.m, whose 25 moments of a video are inside the cells here."""
    rng = np.random.default_rng(2)
    durations = [7.3, 19.1, 11.7]
    videos = [ScoredCells(np.linspace(0, each, 41), rng.random((40, 1))) for each in durations]
    starts = rng.random(9) * 5
    truth = Segments(np.arange(9) % 3, np.zeros(9), starts, starts + 3 * rng.random(9))
    scores = [[float(video.probabilities[min(int(j / 25 * 40 + 1e-9), 39), 0]) for j in range(25)] for video in videos]
    rows = list(zip(truth.videos.tolist(), truth.starts.tolist(), truth.ends.tolist(), strict=True))
    found = frame_map(videos, truth, sampling=FrameSampling(frames_per_video=25))
    assert found.macro.value == pytest.approx(charades_average_precision(durations, rows, scores))


def test_frames_at_a_rate() -> None:
    videos, truth = timelines(3)
    found = frame_map(videos, truth, sampling=FrameSampling(frames_per_second=16))
    fine = frame_map(videos, truth)
    assert found.macro.value == pytest.approx(fine.macro.value)
    coarse = frame_map(videos, truth, sampling=FrameSampling(frames_per_second=2))
    assert coarse.macro.value != pytest.approx(fine.macro.value)
    with pytest.raises(ValueError, match="at most one of the two may be given"):
        FrameSampling(25, 2.0)
    with pytest.raises(ValueError, match="positive"):
        FrameSampling(0)


def test_a_class_without_positives_is_in_no_mean() -> None:
    videos, truth = timelines(4)
    found = frame_map(videos, truth.where(truth.classes != 1))
    assert math.isnan(found.per_class[1].value)
    assert found.macro.value == pytest.approx((found.per_class[0].value + found.per_class[2].value) / 2)
    assert math.isnan(frame_map(videos, truth.where(truth.classes > 5)).macro.value)
    with pytest.raises(ValueError, match="no timelines to measure"):
        frame_map([], truth)


def test_intervals_are_those_of_resampled_videos() -> None:
    videos, truth = timelines(5)
    scores, targets, owners = every_sample(videos, truth, 1 / 16)
    resampling = Resampling(torch.arange(VIDEOS), draws=50, seed=1)
    found = frame_map(videos, truth, resampling=resampling)
    weights = torch.cat(list(resample_weights(resampling.units, draws=50, seed=1)), dim=1).numpy()
    drawn = np.array(
        [
            np.mean(
                [
                    average_precision_score(targets[:, c], scores[:, c], sample_weight=column[owners])
                    for c in range(CLASSES)
                ]
            )
            for column in weights.T
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975]) + found.macro.value - drawn.mean()
    assert (found.macro.low, found.macro.high) == pytest.approx((low, high), abs=1e-5)
    assert frame_resampling(None, videos, CLASSES).draws == 0  # too few videos
    assert frame_resampling(None, videos * 2, CLASSES).draws == 1000


def test_frame_accuracy_by_hand() -> None:
    """10 s: nothing, then 4 s of class 0 of which 3 s are found, 1 s of class 1 in its place, 1 s too long."""
    truth = Segments([0], [0], [2.0], [6.0])
    predicted = Segments([0, 0], [1, 0], [2.0, 3.0], [3.0, 7.0], [0.5, 0.5])
    found = frame_accuracy(truth, predicted, [10.0], 2)
    assert found.accuracy.value == pytest.approx(0.8)
    assert found.in_actions.value == pytest.approx(0.75)
    twelve = [10.0] * 12  # actions in one video of twelve do not say how those of other videos would be found
    alone = frame_accuracy(truth, predicted, twelve, 2, resampling=Resampling(torch.arange(12), draws=101))
    assert alone.in_actions.value == pytest.approx(0.75)
    assert math.isnan(alone.in_actions.low)
    assert alone.accuracy.low < alone.accuracy.value < 1
    nothing = Segments([], [], [], [], [])
    assert frame_accuracy(nothing, nothing, [10.0, 5.0], 2).accuracy.value == 1.0
    assert math.isnan(frame_accuracy(nothing, predicted, [10.0], 2).in_actions.value)


cells = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(-2, 14), st.integers(0, 9)), max_size=8)


@pytest.mark.slow
@settings(deadline=None)
@given(cells, cells)
def test_frame_accuracy_is_that_of_every_second(true: list, answers: list) -> None:
    durations = [11.0, 7.0]

    def active(rows: list, video: int, second: int) -> set[int]:
        return {c for v, c, start, length in rows if v == video and start <= second < start + length}

    right = [
        active(true, video, second) == active(answers, video, second)
        for video, duration in enumerate(durations)
        for second in range(int(duration))
    ]
    truth, predicted = (
        Segments(*np.array([(v, c, s, s + n) for v, c, s, n in rows], dtype=float).reshape(-1, 4).T)
        for rows in (true, answers)
    )
    found = frame_accuracy(truth, predicted, durations, 3, resampling=Resampling(torch.arange(2), draws=20))
    assert found.accuracy.value == pytest.approx(np.mean(right))
    assert found.accuracy.low <= found.accuracy.value <= found.accuracy.high
