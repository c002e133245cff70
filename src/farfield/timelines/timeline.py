"""Class probabilities over time in a long video, and the segments computed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from farfield.clip_spec import ViewsAggregation
from farfield.errors import VideoError
from farfield.scoring.aggregation import aggregate_views
from farfield.scoring.load import InferenceModel
from farfield.timelines.cells import smooth, to_cells
from farfield.timelines.options import TimelineOptions
from farfield.timelines.segments import Segment
from farfield.timelines.sliding_windows import windows_of
from farfield.timelines.timeline_segments import check_timeline_options, timeline_segments
from farfield.timelines.window_scores import WindowScore, score_windows
from farfield.video.decoders import Video


@dataclass(frozen=True)
class Timeline:
    """A video's class probabilities over time.

    Attributes:
        labels: class names, in the order of the columns of `probabilities`.
        times: bounds of the cells in seconds. Cells are short time intervals, see `to_cells`.
        probabilities: probability of each class in each cell.
        segments: runs of consecutive cells with the same class, sorted by start. There may be gaps between them, for
            example where no class reaches its threshold. For a multilabel network, segments of different classes may
            overlap. If `TimelineOptions.overlaps` is "soft_nms" or "merge", segments of the same class may overlap too.
        windows: start and end of each window, in seconds.
        error: why the rest of the video could not be read; None if the whole video was read.
        features: the classifier's input for each window; None if not requested.
        views_aggregation: how `whole_video` combines the probabilities of all cells: "mean" or "max".
        window_probabilities: probability of each class in each window, before windows are combined into cells.
    """

    labels: list[str]
    times: Float[np.ndarray, " cells+1"]
    probabilities: Float[np.ndarray, "cells classes"]
    segments: list[Segment]
    windows: Float[np.ndarray, "windows 2"]
    error: str | None = None
    features: Float[np.ndarray, "windows c"] | None = None
    views_aggregation: ViewsAggregation = "mean"
    window_probabilities: Float[np.ndarray, "windows classes"] | None = None

    @property
    def whole_video(self) -> Float[np.ndarray, " classes"]:
        """Class probabilities of the whole video: the mean or maximum over time, depending on `views_aggregation`."""
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
    sharing: bool = True,
) -> Timeline:
    """Score sliding windows over an open video, and find segments in the class probabilities.

    Only the frames of a few windows are in memory at a time.

    Args:
        video: an open video from `open_video`.
        path: path of the video, for messages.
        model: a network from `load_model` or `build_model`.
        options: how to place the windows and find the segments.
        num_crops: number of square crops per window.
        view_batch_size: windows x crops per forward pass; bounds memory.
        features: whether to also return the features of each window.
        start_seconds: time from which to score the video; None for the start of the video.
        end_seconds: time up to which to score the video, excluded; None for the end of the video.
        on_progress: called with (number of windows done, total number of windows).
        sharing: whether overlapping windows share the features of the frames that they have in common, if the network
            allows it; see `score_windows`.

    Raises:
        FarfieldError: if the options do not fit the network (see `check_timeline_options`); or if
            `options.window_seconds` is None, but the network samples frames from a whole video, so that it has no
            window length of its own.
        VideoError: if no window can be decoded; if no frame lies between `start_seconds` and `end_seconds`; or if the
            scored part of the video is shorter than a clip, while `options.window_seconds` is None and the network's
            `short_clip` is "refuse".
    """
    check_timeline_options(options, model)
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
        for score in score_windows(windows, model, view_batch_size, features, sharing=sharing):
            scores.append(score)
            if on_progress is not None:
                on_progress(len(scores), len(windows))
    except VideoError as failed:
        if not scores:
            raise
        error = failed.reason
    starts, ends = windows.starts[: len(scores)], windows.ends[: len(scores)]
    of_windows = np.stack([each.probabilities for each in scores])
    times, cells = to_cells(starts, ends, of_windows, options.windows_aggregation)
    cells = smooth(times, cells, options.smooth_seconds)
    segments = timeline_segments(times, cells, model, options)
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
        of_windows,
    )
