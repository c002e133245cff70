"""Random tested videos, for the tests of metrics, files and pictures of timelines."""

from __future__ import annotations

import numpy as np

from farfield.evaluation.video_timeline import TrueSegment, VideoTimeline
from farfield.timelines.cells import to_cells
from farfield.timelines.segments import find_segments_of_each_class


def random_video(
    path: str, labels: list[str], rng: np.random.Generator, *, seconds: float = 60.0, segments: int = 7
) -> VideoTimeline:
    """Return a video whose windows know its random segments, more or less."""
    starts = np.arange(0, seconds - 2, 0.75)
    windows = np.stack([starts, starts + 2], 1)
    windows[-1, 1] = seconds
    truth = []
    for _ in range(segments):
        start = rng.uniform(0, seconds - 1)
        truth.append(TrueSegment(start, min(start + rng.uniform(1, 9), seconds), str(rng.choice(labels))))
    probabilities = rng.uniform(0, 0.6, (len(windows), len(labels))).astype(np.float32)
    for start, end, label in truth:
        inside = (windows[:, 0] < end) & (windows[:, 1] > start)
        probabilities[inside, labels.index(label)] += 0.4
    times, cells = to_cells(*windows.T, probabilities)
    found = find_segments_of_each_class(times, cells, labels, np.full(len(labels), 0.5), min_seconds=1)
    return VideoTimeline(path, sorted(truth), found, times, cells, windows, probabilities)
