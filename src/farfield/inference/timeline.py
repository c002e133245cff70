"""Class probabilities over time in a long video, and the segments computed from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from farfield.clip_spec import ViewsAggregation
from farfield.errors import FarfieldError, VideoError
from farfield.inference.joint_labels import joint_cells
from farfield.inference.segments import Segment, find_segments, find_segments_of_each_class
from farfield.inference.sliding_windows import Window, check_window_lengths, windows_of
from farfield.models.operating_point import class_thresholds
from farfield.scoring.aggregation import aggregate_views, view_probabilities
from farfield.scoring.load import InferenceModel
from farfield.scoring.score_views import score_views
from farfield.video.decoders import Video


@dataclass(frozen=True)
class TimelineOptions:
    """Options of a timeline.

    Args:
        hop_seconds: time from the start of one window to the next; None for half a window.
        window_seconds: length of a window; None for the network's own.
        smooth_seconds: duration around each moment over which probabilities are averaged; 0 for no smoothing.
        min_seconds: minimum length of a segment. Shorter segments are merged into a neighbour; those of a multilabel
            network, whose classes are independent, are dropped.
        threshold: minimum probability of a moment's best class. Moments below it belong to no segment. For a multi_head
            network, that of its most probable combination, which is the product of its classes' probabilities. For a
            multilabel network, the threshold of every class; 0 for each class's own.

    Raises:
        FarfieldError: for values out of range.
    """

    hop_seconds: float | None = None
    window_seconds: float | None = None
    smooth_seconds: float = 0.0
    min_seconds: float = 0.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_window_lengths(None, self.hop_seconds, self.window_seconds)
        for name, given in (("smooth_seconds", self.smooth_seconds), ("min_seconds", self.min_seconds)):
            if not given >= 0:
                raise FarfieldError(f"{name} is {given}; it must be 0 or more.")
        if not 0 <= self.threshold < 1:
            raise FarfieldError(f"threshold is {self.threshold}; it must be a probability, at least 0 and below 1.")


@dataclass(frozen=True)
class Timeline:
    """A video's class probabilities over time.

    Attributes:
        labels: class names, in the order of `probabilities`.
        times: bounds of the cells (time intervals) in seconds, see `to_cells`.
        probabilities: probability of each class in each cell.
        segments: runs of cells of the same class, in order of time, with gaps where no class reaches the threshold. A
            multilabel network's may overlap.
        windows: start and end of each window, in seconds.
        error: why the video could not be read to its end; None if it was read to its end.
        features: features of each window before the classifier; None if not requested.
        views_aggregation: how `whole_video` is aggregated over time, as over the views of a test.
    """

    labels: list[str]
    times: Float[np.ndarray, " cells+1"]
    probabilities: Float[np.ndarray, "cells classes"]
    segments: list[Segment]
    windows: Float[np.ndarray, "windows 2"]
    error: str | None = None
    features: Float[np.ndarray, "windows c"] | None = None
    views_aggregation: ViewsAggregation = "mean"

    @property
    def whole_video(self) -> Float[np.ndarray, " classes"]:
        """Class probabilities of the whole video: the average over time, or the highest at any time."""
        return self._aggregated(self.views_aggregation)

    @property
    def mean(self) -> Float[np.ndarray, " classes"]:
        """Class probabilities averaged over time."""
        return self._aggregated("mean")

    def _aggregated(self, method: ViewsAggregation) -> Float[np.ndarray, " classes"]:
        seconds = torch.from_numpy(np.diff(self.times))
        return aggregate_views(torch.from_numpy(self.probabilities), seconds, method=method).numpy()


def make_timeline(
    video: Video,
    path: str | Path,
    model: InferenceModel,
    options: TimelineOptions,
    *,
    num_crops: int = 1,
    view_batch_size: int = 8,
    features: bool = False,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Timeline:
    """Score sliding windows over an open video, and find its segments. Memory holds the frames of a few windows only.

    Args:
        video: an open video from `open_video`.
        path: file of the video, for messages.
        model: a network from `load_model` or `build_model`.
        options: options of the windows and segments.
        num_crops: square crops of each window.
        view_batch_size: windows x crops per forward pass; bounds memory.
        features: whether to also return the features of each window.
        start_seconds: start of the part of the video to score; None for the start of the video.
        end_seconds: end of that part, excluded; None for the end of the video.
        on_progress: called with (windows done, windows in all).

    Raises:
        FarfieldError: if `options.window_seconds` is None and the network samples segments of a whole video.
        VideoError: if no window can be decoded, or no frame lies in the part, or if `options.window_seconds` is None,
            the video is shorter than a clip and the network's `short_clip` is "refuse".
    """
    windows = windows_of(
        video,
        path,
        model.clip,
        hop_seconds=options.hop_seconds,
        window_seconds=options.window_seconds,
        num_crops=num_crops,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
    )
    scores: list[WindowScore] = []
    error: str | None = None
    try:
        for score in score_windows(windows, model, view_batch_size, features):
            scores.append(score)
            if on_progress is not None:
                on_progress(len(scores), len(windows))
    except VideoError as failed:
        if not scores:
            raise
        error = failed.reason
    starts, ends = windows.starts[: len(scores)], windows.ends[: len(scores)]
    times, cells = to_cells(starts, ends, np.stack([each.probabilities for each in scores]))
    cells = smooth(times, cells, options.smooth_seconds)
    segments = _segments(times, cells, model, options)
    vectors = [each.features for each in scores if each.features is not None]
    return Timeline(
        list(model.labels),
        times,
        cells,
        segments,
        np.stack([starts, ends], 1),
        error,
        np.stack(vectors) if vectors else None,
        model.clip.views_aggregation,
    )


def _segments(
    times: Float[np.ndarray, " cells+1"],
    cells: Float[np.ndarray, "cells classes"],
    model: InferenceModel,
    options: TimelineOptions,
) -> list[Segment]:
    """Find the segments of a network's cells, as its task needs."""
    labels, least = model.labels, options.min_seconds
    if model.task == "multi_head":
        cells, labels = joint_cells(cells, labels)
    if model.task != "multilabel":
        return find_segments(times, cells, labels, min_seconds=least, threshold=options.threshold)
    own = class_thresholds(labels, model.operating_point, model.task)
    thresholds = np.array([options.threshold or each for each in own], dtype=float)
    return find_segments_of_each_class(times, cells, labels, thresholds, min_seconds=least)


class WindowScore(NamedTuple):
    """Class probabilities of one window, aggregated over crops, and, if requested, features averaged over them."""

    probabilities: Float[np.ndarray, " classes"]
    features: Float[np.ndarray, " c"] | None


def score_windows(
    windows: Iterable[Window], model: InferenceModel, view_batch_size: int = 8, features: bool = False
) -> Iterator[WindowScore]:
    """Yield the scores of each window. Windows are scored in batches.

    If a frame cannot be decoded, the scores of the windows before it are yielded before the error is raised.
    """
    for batch in _batches(windows, view_batch_size):
        views = torch.cat([window.frames for window in batch])
        scores = score_views(model, views, batch_size=view_batch_size, features=features)
        probabilities = (
            aggregate_views(
                view_probabilities(scores.logits, len(batch), model.task), method=model.clip.views_aggregation
            )
            .cpu()
            .numpy()
        )
        crops = (len(batch), len(batch[0].frames))
        vectors = None if scores.features is None else scores.features.unflatten(0, crops).mean(1).cpu().numpy()
        for i, each in enumerate(probabilities):
            yield WindowScore(each, None if vectors is None else vectors[i])


def _batches(windows: Iterable[Window], view_batch_size: int) -> Iterator[list[Window]]:
    """Group windows into batches of at least `view_batch_size` views. A decoding error comes after the last batch."""
    batch: list[Window] = []
    try:
        for window in windows:
            batch.append(window)
            if len(batch) * len(window.frames) >= view_batch_size:
                yield batch
                batch = []
    except VideoError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def to_cells(
    starts: Float[np.ndarray, " windows"], ends: Float[np.ndarray, " windows"], found: Float[np.ndarray, "windows k"]
) -> tuple[Float[np.ndarray, " cells+1"], Float[np.ndarray, "cells k"]]:
    """Cut time into cells at the starts of windows, and average over the windows that overlap each cell.

    Each window is weighted by the length of its overlap with the cell. From the start to the end of the last window,
    cells continue at the same hop.

    Args:
        starts: start of each window in seconds, ascending.
        ends: end of each window in seconds.
        found: class probabilities of each window.

    Returns:
        The bounds of the cells in seconds, and the class probabilities of each cell.

    Raises:
        ValueError: if a window does not start later than the previous one, or does not end after its start.
    """
    if np.any(np.diff(starts) <= 0) or np.any(ends <= starts):
        raise ValueError("each window must start later than the previous one, and end after its own start.")
    end = float(ends.max())
    hop = float(np.median(np.diff(starts))) if len(starts) > 1 else end - float(starts[0])
    rest = np.arange(1, max(math.ceil((end - starts[-1]) / hop - 1e-6), 1)) * hop
    bounds = np.concatenate([starts, starts[-1] + rest, [end]])
    sums = np.zeros((len(bounds) - 1, found.shape[1]))
    weights = np.zeros(len(bounds) - 1)
    beyond = np.searchsorted(bounds, ends, side="left")
    for first, (stop, start, last, probabilities) in enumerate(zip(beyond, starts, ends, found, strict=True)):
        stop = max(int(stop), first + 1)
        overlap = np.minimum(bounds[first + 1 : stop + 1], last) - np.maximum(bounds[first:stop], start)
        sums[first:stop] += overlap[:, None] * probabilities
        weights[first:stop] += overlap
    return bounds, sums / weights[:, None]


def smooth(
    times: Float[np.ndarray, " cells+1"], cells: Float[np.ndarray, "cells k"], seconds: float
) -> Float[np.ndarray, "cells k"]:
    """Average probabilities over `seconds` around each cell's middle. Cells covered in part count in proportion."""
    if seconds == 0:
        return cells
    integral = np.concatenate([np.zeros((1, cells.shape[1])), np.cumsum(cells * np.diff(times)[:, None], axis=0)])
    middles = (times[:-1] + times[1:]) / 2
    bounds = np.clip([middles - seconds / 2, middles + seconds / 2], times[0], times[-1])
    low, high = (_at(bound, times, integral) for bound in bounds)
    return (high - low) / (bounds[1] - bounds[0])[:, None]


def _at(moments: np.ndarray, times: np.ndarray, integral: np.ndarray) -> np.ndarray:
    """Interpolate the integral of the probabilities over time linearly at `moments`, for all classes at once."""
    place = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(times) - 2)
    part = ((moments - times[place]) / (times[place + 1] - times[place]))[:, None]
    return integral[place] * (1 - part) + integral[place + 1] * part
