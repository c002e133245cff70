"""Clips, targets and scores of whole videos against PySlowFast's rules for Charades."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.clips import video_views
from farfield.data.datasets import TrainingClips
from farfield.data.frame_sampling import random_clip, uniform_views
from farfield.data.manifest import Manifest
from farfield.data.samplers import SampleKey
from farfield.data.targets import WholeVideos
from farfield.data.video_record import VideoRecord
from farfield.evaluation.class_metrics import mean_average_precision
from farfield.scoring.aggregation import aggregate_views
from reference import pyslowfast_charades as rules

FPS = 24.0
LENGTHS = (1, 2, 5, 8, 12, 13, 14, 19, 31)
"""Numbers of frames of videos, for clips that span 13 frames."""


def spec(num_frames: int = 5, frame_stride: int = 3) -> ClipSpec:
    return ClipSpec(num_frames=num_frames, frame_stride=frame_stride, crop_px=8, short_clip="clamp")


def whole(segments: Sequence[rules.Segment]) -> WholeVideos:
    rows = [VideoRecord("a.mp4", f"c{label:03}", start, end) for start, end, label in segments]
    return WholeVideos.of(Manifest(rows, root=Path(), source="test"))


@pytest.mark.parametrize("length", LENGTHS)
def test_training_clips_are_pyslowfasts(length: int) -> None:
    rng = np.random.default_rng(length)
    starts = rules.training_starts(length, 5, 3)
    drawn = [tuple(random_clip(length, spec(), rng).tolist()) for _ in range(20 * len(starts))]
    expected = [tuple(rules.clip_from(start, length, 5, 3)) for start in starts]
    assert set(drawn) == set(expected)
    for clip in set(expected):  # starts that give the same clip count for each of them
        share = expected.count(clip) / len(expected)
        assert abs(drawn.count(clip) / len(drawn) - share) < 5 * (share * (1 - share) / len(drawn)) ** 0.5 + 1e-9


@pytest.mark.parametrize(("num_frames", "stride"), [(64, 2), (32, 2), (5, 3), (1, 7)])
@pytest.mark.parametrize("clips", [2, 3, 7, 10])
def test_test_clips_are_pyslowfasts(num_frames: int, stride: int, clips: int) -> None:
    for length in [*range(1, 30), *range(120, 150), *range(211, 400, 13)]:
        starts = rules.test_starts(length, num_frames, stride, clips)
        expected = [rules.clip_from(start, length, num_frames, stride) for start in starts]
        assert uniform_views(length, spec(num_frames, stride), clips).tolist() == expected, length


def test_short_videos_repeat_both_ends_in_training_and_the_last_frame_in_a_test() -> None:
    assert rules.training_starts(8, 5, 3) == [-5, -4, -3, -2, -1, 0]
    assert rules.clip_from(-4, 8, 5, 3) == [0, 0, 2, 5, 7]
    assert uniform_views(8, spec(), 10).tolist() == [[0, 3, 6, 7, 7]] * 10


@pytest.mark.parametrize("seed", range(20))
def test_clip_targets_are_the_labels_of_all_frames_from_the_first_to_the_last(seed: int) -> None:
    """Actions last a frame at least: those that fall between two frames are in no list of frames, but count here."""
    rng = np.random.default_rng(seed)
    length, classes = int(rng.integers(1, 40)), 6
    segments = []
    for label in [*range(classes), *rng.integers(0, classes, 3).tolist()]:
        start = rng.integers(0, length) if rng.random() < 0.5 else rng.uniform(0, length)  # on a frame, or between
        segments.append((float(start / FPS), float((start + rng.choice([1, 3.5, 11])) / FPS), label))
    videos = whole(segments)
    labels = [f"c{label:03}" for label in range(classes)]
    frames = rules.labels_of_frames(segments, length, FPS)
    targets = videos.clip_targets(labels)
    for start in rules.training_starts(length, 5, 3):
        clip = rules.clip_from(start, length, 5, 3)
        target = targets.of_clip(0, np.array(clip) / FPS)
        assert set(np.flatnonzero(target).tolist()) == rules.labels_of_clip(frames, clip)
    if rules.labels_of_video(frames) == set(range(classes)):  # else an action begins after the last frame
        assert np.flatnonzero(videos.manifest.target_matrix(labels)[0]).tolist() == list(range(classes))


@pytest.mark.parametrize("length", [9, 24])
def test_training_batches_hold_pyslowfasts_targets(length: int, make_video: Callable[..., Path]) -> None:
    """Each frame has a class of its own, so that a target tells which frames the clip spans."""
    path = make_video(length, fps=FPS)
    segments = [(frame / FPS, (frame + 1) / FPS, frame) for frame in range(length)]
    rows = [VideoRecord(path.name, f"c{label:03}", start, end) for start, end, label in segments]
    videos = WholeVideos.of(Manifest(rows, root=path.parent, source="test"))
    labels = [f"c{label:03}" for label in range(length)]
    clips = TrainingClips(
        videos.manifest,
        labels,
        spec().replace(target_fps=FPS),
        Augmentation(flip=False),
        seed=0,
        task="multilabel",
        clip_targets=videos.clip_targets(labels),
    )
    frames = rules.labels_of_frames(segments, length, FPS)
    starts = rules.training_starts(length, 5, 3)
    expected = {frozenset(rules.labels_of_clip(frames, rules.clip_from(start, length, 5, 3))) for start in starts}
    batches = [clips[[SampleKey(epoch=epoch, row=0)]] for epoch in range(12 * len(starts))]
    assert {frozenset(batch.labels[0].nonzero().flatten().tolist()) for batch in batches} == expected


@pytest.mark.parametrize("length", [9, 50])
def test_a_test_takes_each_clip_in_three_crops(length: int, make_video: Callable[..., Path]) -> None:
    tested = spec().replace(target_fps=FPS)
    views = video_views(make_video(length, fps=FPS), VideoRecord("a", ""), tested, num_clips=10, num_crops=3)
    starts = rules.test_starts(length, 5, 3, 10)
    shown = [rules.clip_from(starts[view // 3], length, 5, 3) for view in range(30)]
    assert np.rint(views.times_seconds * FPS).astype(int).tolist() == shown
    left, central, right = (views.frames[i, 0].float() for i in range(3))
    assert not torch.equal(left, central)
    assert not torch.equal(central, right)


def test_scores_and_average_precision_are_pyslowfasts() -> None:
    """Maximum over views, then scikit-learn's average precision, averaged over the classes that a video has."""
    probabilities = torch.rand(23, 30, 11, generator=torch.Generator().manual_seed(1)).mul(8).round() / 8  # with ties
    scores = aggregate_views(probabilities[:, :2], method="max")
    expected = torch.stack([rules.highest(views) for views in probabilities[:, :2]])
    assert torch.equal(scores, expected)
    targets = torch.rand(23, 11, generator=torch.Generator().manual_seed(2)) < torch.linspace(0, 1, 11)
    targets[:, 4] = False
    present = targets.any(0)
    theirs = average_precision_score(targets[:, present].numpy(), expected[:, present].numpy(), average=None)
    assert int(present.sum()) == 9
    assert mean_average_precision(scores, targets) == pytest.approx(np.mean(theirs), rel=1e-6)
