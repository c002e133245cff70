from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.timelines import random_video
from farfield.evaluation.video_timeline import TrueSegment, VideoTimeline
from farfield.timelines.segments import Segment
from farfield.timelines.timeline import Timeline


def segment(start: float, end: float, label: str) -> Segment:
    return Segment(start, end, label, 0.7, 0.7)


@pytest.mark.parametrize("seed", range(4))
def test_agreement_is_the_share_of_moments(seed: int) -> None:
    """Against 60,000 moments; segments of one class overlap each other, too."""
    labels = ["a", "b", "c"]
    video = random_video("v.mp4", labels, np.random.default_rng(seed), segments=17)
    moments = (np.arange(60_000) + 0.5) / 1000
    shared = either = 0
    for label in labels:
        true, found = np.zeros((2, len(moments)), bool)
        for start, end, name in video.truth:
            true |= (name == label) & (moments >= start) & (moments < end)
        for each in video.segments:
            found |= (each.label == label) & (moments >= each.start_seconds) & (moments < each.end_seconds)
        shared += (true & found).sum()
        either += (true | found).sum()
    assert 0.1 < shared / either < 0.9
    assert video.agreement() == pytest.approx(shared / either, abs=2e-4)


def test_agreement_on_nothing() -> None:
    video = random_video("v.mp4", ["a"], np.random.default_rng(0), segments=0)
    assert replace(video, segments=[]).agreement() == 1
    assert replace(video, segments=[segment(0, 1, "a")]).agreement() == 0
    assert replace(video, segments=[], truth=[TrueSegment(0, 1, "a")]).agreement() == 0
    assert replace(video, segments=[segment(1, 2, "a")], truth=[TrueSegment(0, 1, "a")]).agreement() == 0


def test_truth_ends_with_the_video_and_has_one_class_each() -> None:
    line = Timeline(
        ["a", "b"],
        np.array([0.0, 2.0, 4.5]),
        np.zeros((2, 2)),
        [],
        np.array([[0.0, 2.0], [2.0, 4.5]]),
        window_probabilities=np.zeros((2, 2), np.float32),
    )
    rows = [(3.0, 9.0, ("b",)), (0.0, math.inf, ("a", "b")), (1.0, 2.0, ()), (5.0, 6.0, ("a",))]
    video = VideoTimeline.of("v.mp4", line, rows)
    assert video.truth == [(0.0, 4.5, "a"), (0.0, 4.5, "b"), (3.0, 4.5, "b")]
    assert (video.start_seconds, video.end_seconds, video.duration_seconds) == (0.0, 4.5, 4.5)
