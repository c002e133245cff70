"""Timeline of one tested video with its labelled segments, and the agreement of labelled and found segments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from farfield.timelines.segments import Segment
from farfield.timelines.timeline import Timeline


class TrueSegment(NamedTuple):
    """A labelled segment of a video, the half-open interval [start, end) in seconds, with one class."""

    start_seconds: float
    end_seconds: float
    label: str


@dataclass(frozen=True)
class VideoTimeline:
    """Timeline of one tested video, and its labelled segments.

    Attributes:
        path: path of the video, as written in the manifest.
        truth: the labelled segments, in order of their starts. A row of the manifest with several labels gives a
            segment for each label.
        segments: the segments that were found.
        times: bounds of the cells, in seconds. Cells are consecutive time intervals; unlike windows, they do not
            overlap. See `to_cells`.
        probabilities: probability of each class in each cell.
        windows: start and end of each window, in seconds.
        window_probabilities: probability of each class in each window.
    """

    path: str
    truth: list[TrueSegment]
    segments: list[Segment]
    times: Float[np.ndarray, " cells+1"]
    probabilities: Float[np.ndarray, "cells classes"]
    windows: Float[np.ndarray, "windows 2"]
    window_probabilities: Float[np.ndarray, "windows classes"]

    @classmethod
    def of(cls, path: str, line: Timeline, truth: Sequence[tuple[float, float, tuple[str, ...]]]) -> VideoTimeline:
        """Combine the timeline of a video with the manifest rows that label the video.

        Labelled segments are cut at the end of the video. Those that begin at or after its end are left out.

        Args:
            path: path of the video, as written in the manifest.
            line: timeline of the video.
            truth: for each manifest row of the video: start and end in seconds, and the labels.
        """
        assert line.window_probabilities is not None
        end = float(line.times[-1])
        listed = sorted(
            TrueSegment(first, min(last, end), label)
            for first, last, labels in truth
            if first < end
            for label in labels
        )
        return cls(
            path,
            listed,
            line.segments,
            line.times,
            line.probabilities,
            line.windows,
            line.window_probabilities,
        )

    @property
    def start_seconds(self) -> float:
        """Start of the first window."""
        return float(self.times[0])

    @property
    def end_seconds(self) -> float:
        """End of the last window, which is the end of the video."""
        return float(self.times[-1])

    @property
    def duration_seconds(self) -> float:
        """Length of the video in seconds."""
        return self.end_seconds - self.start_seconds

    def agreement(self) -> float:
        """Return the agreement of labelled and found segments: the intersection of their times over the union.

        The seconds of all classes are added up. The result is in [0, 1], and 1 if nothing is labelled and nothing was
        found.
        """
        spans: dict[str, tuple[list, list]] = defaultdict(lambda: ([], []))
        for true in self.truth:
            spans[true.label][0].append((true.start_seconds, true.end_seconds))
        for found in self.segments:
            spans[found.label][1].append((found.start_seconds, found.end_seconds))
        shared = either = 0.0
        for truth, answer in spans.values():
            bounds = np.unique([*truth, *answer])
            lengths, in_truth, in_answer = np.diff(bounds), _covered(bounds, truth), _covered(bounds, answer)
            shared += float(lengths[in_truth & in_answer].sum())
            either += float(lengths[in_truth | in_answer].sum())
        return shared / either if either else 1.0


def _covered(bounds: Float[np.ndarray, " n+1"], spans: Iterable[tuple[float, float]]) -> Bool[np.ndarray, " n"]:
    """Return which intervals between neighbouring bounds are inside a span. Spans must start and end at bounds."""
    covered = np.zeros(max(len(bounds) - 1, 0), bool)
    for start, end in spans:
        covered[np.searchsorted(bounds, start) : np.searchsorted(bounds, end)] = True
    return covered
