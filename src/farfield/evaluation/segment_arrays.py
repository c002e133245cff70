"""Segments of many videos as arrays, the input of the metrics of timelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from farfield.timelines.segments import Segment


@dataclass(frozen=True)
class Segments:
    """Segments of many videos, true or predicted, in any order. Segments of a class may overlap, touch or be equal.

    Args:
        videos: index of each segment's video, at least 0.
        classes: index of each segment's class, at least 0.
        starts: start in seconds.
        ends: end in seconds, not before the start.
        scores: score of each predicted segment, for ranking; None for true segments.

    Raises:
        ValueError: if the arrays have different lengths or are not 1-D, an index is negative, a time or score is NaN or
            infinite, or a segment ends before its start.
    """

    videos: Int[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]
    starts: Float[np.ndarray, " n"]
    ends: Float[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        for name, kind in (("videos", np.int64), ("classes", np.int64), ("starts", float), ("ends", float)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        numbers = [self.starts, self.ends]
        if self.scores is not None:
            object.__setattr__(self, "scores", np.asarray(self.scores, dtype=float))
            numbers.append(self.scores)
        if any(each.shape != self.videos.shape or each.ndim != 1 for each in (self.classes, *numbers)):
            raise ValueError(
                "the arrays of segments have different lengths, or are not 1-D. Give one value per segment in each "
                "array."
            )
        if not all(np.isfinite(each).all() for each in numbers):
            raise ValueError(
                "times and scores of segments must be finite. If a segment has no end, set its end to the end of the "
                "video."
            )
        if (self.ends < self.starts).any():
            raise ValueError("a segment ends before its start. Correct the arrays of starts and ends.")
        if min(self.videos.min(initial=0), self.classes.min(initial=0)) < 0:
            raise ValueError("the index of a segment's video or class is negative; it must be at least 0. Correct it.")

    def __len__(self) -> int:
        return len(self.videos)

    def of_class(self, index: int) -> Segments:
        """Return the segments of one class, in the same order."""
        return self.where(self.classes == index)

    def where(self, chosen: Bool[np.ndarray, " n"] | Int[np.ndarray, " k"]) -> Segments:
        """Return the segments that a mask or an array of indices selects."""
        scores = None if self.scores is None else self.scores[chosen]
        return Segments(self.videos[chosen], self.classes[chosen], self.starts[chosen], self.ends[chosen], scores)

    def rows_of_videos(self, videos: int) -> list[Int[np.ndarray, " _"]]:
        """Return, for each video, the ascending indices of its segments. `videos` is the number of videos."""
        order = np.argsort(self.videos, kind="stable")
        bounds = np.searchsorted(self.videos[order], np.arange(videos + 1))
        return [order[first:last] for first, last in pairwise(bounds)]

    def known_scores(self) -> Float[np.ndarray, " n"]:
        """Return the scores of the segments.

        Raises:
            ValueError: if the segments have no scores.
        """
        if self.scores is None:
            raise ValueError("the predicted segments have no scores, so they cannot be ranked. Give a score for each.")
        return self.scores


def true_segments(
    videos: Sequence[Sequence[tuple[float, float, tuple[str, ...]]]],
    labels: Sequence[str],
    durations: Sequence[float],
) -> Segments:
    """Collect the labelled segments of videos into one `Segments`.

    A segment with several labels becomes a segment for each label. Segments are cut at the video's end. Segments that
    begin at or after the video's end, and segments without a label, are left out.

    Args:
        videos: segments of each video, such as `WholeVideos.segments`: start and end in seconds (an infinite end is the
            video's end), and labels.
        labels: class names.
        durations: length of each video in seconds.

    Raises:
        KeyError: for a label that is not in `labels`.
    """
    index = {label: place for place, label in enumerate(labels)}
    rows = [
        (video, index[label], start, min(end, duration))
        for video, (segments, duration) in enumerate(zip(videos, durations, strict=True))
        for start, end, names in segments
        for label in names
        if start < duration
    ]
    return Segments(*_columns(rows, 4))


def predicted_segments(videos: Sequence[Sequence[Segment]], labels: Sequence[str]) -> Segments:
    """Collect the segments of timelines into one `Segments`.

    Args:
        videos: segments of each video.
        labels: class names.

    Raises:
        KeyError: for a label that is not in `labels`.
    """
    index = {label: place for place, label in enumerate(labels)}
    rows = [
        (video, index[each.label], each.start_seconds, each.end_seconds, each.score)
        for video, segments in enumerate(videos)
        for each in segments
    ]
    return Segments(*_columns(rows, 5))


def _columns(rows: Sequence[tuple[float, ...]], width: int) -> list[np.ndarray]:
    return list(np.array(rows, dtype=float).reshape(-1, width).T)
