"""Frame-wise metrics of timelines: mean average precision over moments, and accuracy over time.

Average precision is defined as in `class_metrics`, but for moments (points in time) instead of videos. The score of a
moment for a class is the class's probability in the timeline's cell (short time interval) that contains the moment. A
moment is a positive if a true segment of the class contains it. Segments are half-open, [start, end). Average precision
is computed as in scikit-learn: without interpolation, and with one threshold for all moments of equal score.

Published evaluations measure different moments:
- MultiTHUMOS (Piergiovanni and Ryoo, "Learning Latent Super-Events to Detect Multiple Activities in Videos", CVPR 2018,
  github.com/piergiaj/super-events-cvpr18): the times at which features are extracted, a fixed number per second. The
  moments of all videos are ranked together.
- Charades (`Charades_v1_localize.m`): 25 moments of each video, at j / 25 of its length for j = 0, ..., 24.

Here, all moments count by default, weighted by time: a video is cut at the bounds of its cells and true segments, and
each part is weighted by its length in seconds. This is the limit of an infinite frame rate. `FrameSampling` gives the
moments of the two evaluations above, but their public code differs from this code:
- Both rank moments of equal score in the order of the videos. Here, these moments share one threshold.
- A class without positives makes Charades' mean NaN, and counts as 0 in MultiTHUMOS's mean. Here, the average precision
  of such a class is NaN and left out of means.
- A true segment includes its end in Charades' evaluation, and excludes its start in MultiTHUMOS's.

Time outside of a timeline's cells has no score, and is not measured for the average precision. The accuracy over time
is measured on each video from 0 to its given duration, see `frame_accuracy`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from farfield.evaluation.class_metrics import Averaged, Resampling, averaged, estimate_from_draws, in_several_units
from farfield.evaluation.metrics import Estimate
from farfield.evaluation.resampling import resample_weights, sampling_units, weighted_ranking_metrics
from farfield.evaluation.segment_arrays import Segments

_MAX_CELLS = 5_000_000
"""Maximum number of weights in memory at a time."""


class ScoredCells(NamedTuple):
    """Class probabilities of one video over time: one row for each cell (short time interval) of a `Timeline`.

    Attributes:
        times: bounds of the cells in seconds, ascending: the start of each cell, and the end of the last.
        probabilities: probability of each class in each cell.
    """

    times: Float[np.ndarray, " cells+1"]
    probabilities: Float[np.ndarray, "cells classes"]


@dataclass(frozen=True)
class FrameSampling:
    """Settings for the moments at which a video is measured. Without options: all moments, weighted by time.

    Args:
        frames_per_video: number n of moments of each video, at j / n of its length for j = 0, ..., n - 1; 25 for
            Charades.
        frames_per_second: number of moments per second. The first moment is the start of the video; the end is
            not a moment.

    Raises:
        ValueError: if both options are set, or one is not positive.
    """

    frames_per_video: int | None = None
    frames_per_second: float | None = None

    def __post_init__(self) -> None:
        given = [each for each in (self.frames_per_video, self.frames_per_second) if each is not None]
        if len(given) > 1 or not all(each > 0 for each in given):
            raise ValueError(
                f"frames_per_video is {self.frames_per_video} and frames_per_second is {self.frames_per_second}; at "
                "most one of the two may be given, and it must be positive. Set the other to None."
            )


@dataclass(frozen=True)
class FrameAccuracy:
    """Share of time in which exactly the true classes are predicted.

    Attributes:
        accuracy: share of the total time of all videos. Time without a true class is correct if no class is predicted.
        in_actions: the same share, but only of the time that has a true class; NaN if there is no such time.
    """

    accuracy: Estimate
    in_actions: Estimate


def frame_map(
    videos: Sequence[ScoredCells],
    truth: Segments,
    *,
    sampling: FrameSampling | None = None,
    resampling: Resampling | None = None,
) -> Averaged:
    """Compute the frame-wise average precision of each class, and the macro and micro average, with 95% intervals.

    Args:
        videos: class probabilities of each video over time.
        truth: true segments.
        sampling: settings for the moments that are measured; None for all moments, weighted by time.
        resampling: settings of the bootstrap of videos or groups, from `frame_resampling`; None for no intervals.

    Returns:
        Average precision of each class, NaN for a class without positives. `macro` is the frame-wise mAP; `micro` is
        the average precision over all (moment, class) pairs together.

    Raises:
        ValueError: if there are no videos.
    """
    scores, targets, seconds, owners = _moments(videos, truth, sampling or FrameSampling())
    classes = targets.any(0).nonzero().flatten().tolist()
    values = torch.full((targets.shape[1],), torch.nan, dtype=torch.float64)
    for c in classes:
        values[c] = weighted_ranking_metrics(scores[:, [c]], targets[:, [c]], seconds[:, None])[0]
    micro = float(weighted_ranking_metrics(scores, targets, seconds[:, None])[0]) if classes else math.nan
    several = torch.zeros(targets.shape[1], dtype=torch.bool)
    drawn: list[Tensor] = []
    pooled: list[Tensor] = []
    if resampling is not None and resampling.draws and classes:
        several = in_several_units(targets, Resampling(resampling.units[owners]))
        for of_videos in resample_weights(resampling.units, draws=resampling.draws, seed=resampling.seed):
            for part in of_videos.split(max(_MAX_CELLS // len(seconds), 1), dim=1):
                weights = seconds[:, None] * part[owners]
                drawn.append(torch.full((part.shape[1], targets.shape[1]), torch.nan, dtype=torch.float64))
                for c in classes:
                    drawn[-1][:, c] = weighted_ranking_metrics(scores[:, [c]], targets[:, [c]], weights)[0]
                pooled.append(weighted_ranking_metrics(scores, targets, weights)[0])
    return averaged(values, micro, drawn, pooled, several)


def frame_accuracy(
    truth: Segments,
    predicted: Segments,
    durations: Sequence[float],
    classes: int,
    *,
    resampling: Resampling | None = None,
) -> FrameAccuracy:
    """Compute the share of time in which the predicted classes are exactly the true ones, with 95% intervals.

    For classes that exclude each other, this is the frame-wise accuracy with "nothing" as one more class. Time outside
    of [0, duration) is not measured.

    Args:
        truth: true segments.
        predicted: predicted segments.
        durations: length of each video in seconds.
        classes: number of classes.
        resampling: settings of the bootstrap; None for no intervals.
    """
    seconds = np.zeros((len(durations), 4))  # right, all, right in actions, all in actions
    of_truth, of_predicted = _by_video(truth, len(durations)), _by_video(predicted, len(durations))
    for video, duration in enumerate(durations):
        here, answers = of_truth[video], of_predicted[video]
        bounds = np.concatenate([[0, duration], here.starts, here.ends, answers.starts, answers.ends])
        bounds = np.unique(np.clip(bounds, 0, duration))
        wanted = _present(bounds, here, classes)
        right = (wanted == _present(bounds, answers, classes)).all(1)
        something, lengths = wanted.any(1), np.diff(bounds)
        shares = (right, np.ones_like(right), right & something, something)
        seconds[video] = [lengths[share].sum() for share in shares]
    return FrameAccuracy(_ratio(seconds[:, :2], resampling), _ratio(seconds[:, 2:], resampling))


def frame_resampling(groups: Sequence[str | None] | None, videos: Sequence[ScoredCells], classes: int) -> Resampling:
    """Choose the settings of the bootstrap for `frame_map`: the units that are drawn, and the number of resamples.

    A unit is a group of videos, or a video without a group. To limit the computing time, there are fewer resamples if
    the videos have more cells (time intervals with class probabilities) or more classes.

    Args:
        groups: group of each video (None for a video without a group), or None if no video has a group.
        videos: class probabilities of each video over time.
        classes: number of classes.
    """
    cells = sum(len(each.probabilities) for each in videos) * classes
    units = sampling_units(groups, range(len(videos)))
    return Resampling.of_units(units, cells // max(len(videos), 1) + 1)


def _moments(
    videos: Sequence[ScoredCells], truth: Segments, sampling: FrameSampling
) -> tuple[Float[Tensor, "n classes"], Bool[Tensor, "n classes"], Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Return the class scores, targets, weight and video index of each measured moment (row).

    If `sampling` sets no option, the videos are cut at all bounds of cells and true segments. Each part gives one row,
    whose weight is the length of the part in seconds. If `sampling` sets an option, each row is a sampled moment, and
    its weight is 1.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    for video, ((times, probabilities), here) in enumerate(zip(videos, _by_video(truth, len(videos)), strict=True)):
        classes = probabilities.shape[1]
        if sampling == FrameSampling():
            bounds = np.unique(np.clip(np.concatenate([times, here.starts, here.ends]), times[0], times[-1]))
            moments, weights = bounds[:-1], np.diff(bounds)
            targets = _present(bounds, here, classes)
        else:
            moments = _sampled(float(times[-1]), sampling)
            moments = moments[(moments >= times[0]) & (moments < times[-1])]
            weights, targets = np.ones(len(moments)), np.zeros((len(moments), classes), dtype=bool)
            for c, start, end in zip(here.classes, here.starts, here.ends, strict=True):
                targets[:, c] |= (moments >= start) & (moments < end)
        cells = np.searchsorted(times, moments, side="right") - 1
        parts.append((probabilities[cells].astype(float), targets, weights, np.full(len(moments), video)))
    if not parts:
        raise ValueError("there are no timelines to measure. Give at least one.")
    joined = [torch.from_numpy(np.concatenate(each)) for each in zip(*parts, strict=True)]
    return joined[0], joined[1], joined[2], joined[3]


def _sampled(end: float, sampling: FrameSampling) -> Float[np.ndarray, " n"]:
    """Return the sampled moments of a video that is `end` seconds long."""
    if sampling.frames_per_video is not None:
        return np.arange(sampling.frames_per_video) / sampling.frames_per_video * end
    assert sampling.frames_per_second is not None
    return np.arange(math.ceil(end * sampling.frames_per_second)) / sampling.frames_per_second


def _present(bounds: Float[np.ndarray, " n+1"], segments: Segments, classes: int) -> Bool[np.ndarray, "n classes"]:
    """Return whether each class has a segment in each interval between neighbouring bounds.

    The bounds must include the start and end of every segment.
    """
    steps = np.zeros((len(bounds), classes), dtype=int)
    for times, step in ((segments.starts, 1), (segments.ends, -1)):
        places = np.searchsorted(bounds, np.clip(times, bounds[0], bounds[-1]))
        np.add.at(steps, (places, segments.classes), step)
    return np.cumsum(steps, axis=0)[:-1] > 0


def _by_video(segments: Segments, videos: int) -> list[Segments]:
    """Return the segments of each video; `videos` is the number of videos."""
    return [segments.where(rows) for rows in segments.rows_of_videos(videos)]


def _ratio(seconds: Float[np.ndarray, "videos 2"], resampling: Resampling | None) -> Estimate:
    """Return the sum of the first column of `seconds` divided by the sum of the second; NaN for 0 / 0.

    The 95% interval is NaN if `resampling` is None or has no resamples, or if only one unit has a positive value in the
    second column.
    """
    sums, drawn = torch.from_numpy(seconds), None
    if resampling is not None and resampling.draws and len(resampling.units[sums[:, 1] > 0].unique()) > 1:
        weights = resample_weights(resampling.units, draws=resampling.draws, seed=resampling.seed)
        parts = torch.cat([each.T.double() @ sums for each in weights])
        drawn = parts[:, 0] / parts[:, 1]
    right, total = sums.sum(0).tolist()
    return estimate_from_draws(right / total if total else math.nan, drawn)
