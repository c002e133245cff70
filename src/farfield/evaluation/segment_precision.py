"""Average precision of temporal detection, and precision and recall of segments, for each class.

The protocol is that of ActivityNet's evaluation (github.com/activitynet/ActivityNet, Evaluation/eval_detection.py),
which is also used for other data sets. THUMOS14 uses other thresholds of temporal intersection over union (tIoU).
Predicted segments are matched to true ones (see `segment_matching`), and the average precision is interpolated as in
Pascal VOC 2011:

    AP = 1 / P  sum over true positives i of  max_{j >= i} TP_j / (TP_j + FP_j)

P is the number of true segments. i and j are ranks of the predictions, sorted by score, highest first. TP_j and FP_j
are the numbers of true and false positives among the j highest scores. The mean over classes is the mAP at a tIoU, and
the mean of the mAPs over the tIoUs is the average mAP.

The results equal those of MMAction2 1.2.0 (`ActivityNetLocalization`) and ActionFormer 1.5.0 (`ANETdetection`), except
in the cases that `segment_matching` lists. As in both, the average precision of a class without a true segment is NaN,
and the means leave this class out. Its predictions therefore do not affect any average precision or mean; they are
counted as false alarms (see `alarms`). For predictions of such a class, ActivityNet's and MMAction2's evaluation raise
an error, and ActionFormer's may count them as predictions of another class. A class with true segments and no
predictions has an average precision of 0.

95% confidence intervals are computed with a bootstrap over videos or groups of videos, as in `class_metrics`. Segments
are matched only within a video. They are therefore matched once, and each resample counts the segments of a video as
often as it contains the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from farfield.evaluation.class_metrics import (
    DecisionCounts,
    DecisionMetrics,
    Resampling,
    averaged,
    estimate_from_draws,
    in_several_units,
)
from farfield.evaluation.metrics import Estimate
from farfield.evaluation.resampling import resample_weights, sampling_units
from farfield.evaluation.segment_arrays import Segments
from farfield.evaluation.segment_matching import match_segments

ACTIVITYNET_TIOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""tIoU thresholds 0.5, 0.55, ..., 0.95, with the rounding of the public code: 0.9 is 0.8999999999999999."""
THUMOS_TIOUS = tuple(np.linspace(0.3, 0.7, 5).tolist())
"""tIoU thresholds 0.3, 0.4, ..., 0.7, with the rounding of the public code: 0.4 is 0.39999999999999997."""

_MAX_CELLS = 5_000_000
"""Maximum number of cumulative counts (ranks x resamples) in memory at a time."""


@dataclass(frozen=True)
class DetectionMap:
    """Mean average precision of temporal detection, with 95% confidence intervals.

    If an `Estimate` has no interval, its bounds are NaN.

    Attributes:
        tious: tIoU thresholds.
        average_precision: average precision for each threshold and class, without intervals; NaN for a class without
            true segments.
        per_class: for each class, the mean of its average precision over the thresholds.
        at_tiou: for each threshold, the mean of the average precision over the classes (mAP).
        mean: mean of the average precision over classes and thresholds: the average mAP.
    """

    tious: tuple[float, ...]
    average_precision: Float[np.ndarray, "tious classes"]
    per_class: list[Estimate]
    at_tiou: list[Estimate]
    mean: Estimate


def detection_average_precision(
    truth: Segments, predicted: Segments, classes: int, tious: Sequence[float] = ACTIVITYNET_TIOUS
) -> Float[np.ndarray, "tious classes"]:
    """Compute the average precision of each class at each tIoU threshold, without intervals.

    Args:
        truth: true segments.
        predicted: predicted segments, with scores.
        classes: number of classes.
        tious: tIoU thresholds, above 0 and at most 1.

    Returns:
        Average precision; NaN for classes without true segments.
    """
    found = np.full((len(tious), classes), np.nan)
    for c in np.unique(truth.classes).tolist():
        of_class, of_predicted = truth.of_class(c), predicted.of_class(c)
        matched = match_segments(of_class, of_predicted, tious).matched
        found[:, c] = _interpolated(matched, len(of_class))
    return found


def detection_map(
    truth: Segments,
    predicted: Segments,
    classes: int,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    *,
    resampling: Resampling | None = None,
) -> DetectionMap:
    """Compute the average precision of each class at each tIoU threshold, and its means with 95% confidence intervals.

    Args:
        truth: true segments.
        predicted: predicted segments, with scores.
        classes: number of classes.
        tious: tIoU thresholds, above 0 and at most 1, such as `ACTIVITYNET_TIOUS` or `THUMOS_TIOUS`.
        resampling: settings of the bootstrap, from `detection_resampling`; None for no intervals.
    """
    values = np.full((len(tious), classes), np.nan)
    draws = 0 if resampling is None else resampling.draws
    drawn = torch.full((draws, len(tious), classes), torch.nan, dtype=torch.float64)
    for c in np.unique(truth.classes).tolist():
        of_class, of_predicted = truth.of_class(c), predicted.of_class(c)
        ranked = match_segments(of_class, of_predicted, tious)
        values[:, c] = _interpolated(ranked.matched, len(of_class))
        if resampling is not None and draws:
            videos = of_predicted.videos[ranked.order]
            drawn[:, :, c] = torch.from_numpy(_resampled(ranked.matched, videos, of_class, resampling))
    several = _in_several_units(truth, classes, resampling)
    known = ~np.isnan(values).all(0)
    return DetectionMap(
        tuple(tious),
        values,
        [
            estimate_from_draws(_mean(values[:, c]), drawn[:, :, c].mean(1) if several[c] else None)
            for c in range(classes)
        ],
        [
            estimate_from_draws(_mean(row[known]), drawn[:, t].nanmean(1) if draws and several.any() else None)
            for t, row in enumerate(values)
        ],
        estimate_from_draws(_mean(values[:, known]), drawn.mean(1).nanmean(1) if draws and several.any() else None),
    )


def segment_precision_recall(
    truth: Segments, predicted: Segments, classes: int, *, tiou: float = 0.5, resampling: Resampling | None = None
) -> DecisionMetrics:
    """Compute precision, recall and F1 of the predicted segments of each class, with 95% confidence intervals.

    A predicted segment is correct if it matches a true one, see `segment_matching`. For a class without true segments,
    all three metrics are NaN. For a class with true segments but no predicted ones, precision is NaN, and recall and F1
    are 0. Micro averages pool the segments of all classes, including classes without true segments.

    Args:
        truth: true segments.
        predicted: predicted segments, with scores. All of them count as predictions, whatever their score, so they
            must not include candidates below the decision threshold.
        classes: number of classes.
        tiou: tIoU threshold, above 0 and at most 1.
        resampling: settings of the bootstrap, from `detection_resampling`; None for no intervals.
    """
    videos = int(max(truth.videos.max(initial=-1), predicted.videos.max(initial=-1))) + 1
    if resampling is not None:
        videos = len(resampling.units)
    hits = np.zeros((videos, classes))
    for c in np.unique(truth.classes).tolist():
        of_predicted = predicted.of_class(c)
        ranked = match_segments(truth.of_class(c), of_predicted, [tiou])
        hits[:, c] = np.bincount(of_predicted.videos[ranked.order[ranked.matched[0]]], minlength=videos)
    counts = [
        torch.from_numpy(each) for each in (hits, _count(predicted, videos, classes), _count(truth, videos, classes))
    ]
    drawn: list[list[Tensor]] = [[], [], []]
    pooled: list[list[Tensor]] = [[], [], []]
    if resampling is not None and resampling.draws:
        for weights in resample_weights(resampling.units, draws=resampling.draws, seed=resampling.seed):
            sums = [weights.T.double() @ each for each in counts]
            for place, (each, all_classes) in enumerate(
                zip(_ratios(*sums), _ratios(*(one.sum(1) for one in sums)), strict=True)
            ):
                drawn[place].append(each)
                pooled[place].append(all_classes)
    several = _in_several_units(truth, classes, resampling)
    values, micro = _ratios(*(each.sum(0) for each in counts)), _ratios(*(each.sum() for each in counts))
    precision, recall, f1 = (averaged(values[i], float(micro[i]), drawn[i], pooled[i], several) for i in range(3))
    return DecisionMetrics(precision, recall, f1, DecisionCounts(*(each.sum(0).int().tolist() for each in counts)))


def detection_resampling(
    groups: Sequence[str | None] | None, videos: int, truth: Segments, predicted: Segments
) -> Resampling:
    """Choose the settings of the bootstrap for `detection_map`: the units to draw, and the number of resamples.

    A unit is a group of videos, or a single video that has no group. The more segments there are, the fewer resamples
    are drawn, to limit the time.

    Args:
        groups: group of each video (None for a video without a group), or None if no video has a group.
        videos: number of videos.
        truth: true segments of all videos.
        predicted: predicted segments of all videos.
    """
    numbers = len(predicted) + _NUMBERS_PER_TRUE * len(truth)
    return Resampling.of_units(sampling_units(groups, range(videos)), numbers // max(videos, 1) + 1)


_NUMBERS_PER_TRUE = 30
"""Number of values computed for each true segment and resample: three values at each of ten tIoU thresholds."""


def _interpolated(matched: Bool[np.ndarray, "tious n"], positives: int) -> Float[np.ndarray, " tious"]:
    """Compute the interpolated average precision of ranked predictions; `positives` is the number of true segments."""
    precision = np.cumsum(matched, axis=1) / np.arange(1, matched.shape[1] + 1)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (highest * matched).sum(1) / positives


def _resampled(
    matched: Bool[np.ndarray, "tious n"], videos: Int[np.ndarray, " n"], truth: Segments, resampling: Resampling
) -> Float[np.ndarray, "draws tious"]:
    """Compute the interpolated average precision of the ranked predictions of one class on each resample.

    To save time, the cumulative counts of predictions are computed once and used for all tIoU thresholds. They are kept
    only for the ranks of predictions that are true positives at one or more thresholds.

    Args:
        matched: whether each prediction is a true positive, at each tIoU threshold. Predictions are in order of rank.
        videos: index of each prediction's video.
        truth: true segments of the class.
        resampling: settings of the bootstrap.
    """
    ranks = np.flatnonzero(matched.any(0))  # of predictions that are true positives at any tIoU
    right, of_right = matched[:, ranks], videos[ranks]
    true_of_video = np.bincount(truth.videos, minlength=len(resampling.units))
    found = []
    for weights in resample_weights(resampling.units, draws=resampling.draws, seed=resampling.seed):
        for part in weights.split(max(_MAX_CELLS // (len(ranks) + 1), 1), dim=1):
            drawn = part.numpy()
            predictions = _cumulated(videos, drawn, ranks)
            sums = [_precision_sum(drawn[of_right[row]], predictions[row]) for row in right]
            with np.errstate(invalid="ignore"):  # 0 / 0 = NaN, as wanted
                found.append(np.stack(sums, 1) / (true_of_video @ drawn)[:, None])
    return np.concatenate(found)


def _cumulated(
    videos: Int[np.ndarray, " n"], weights: Float[np.ndarray, "videos draws"], ranks: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k draws"]:
    """Count the predictions up to and including each of the given ranks, for each resample.

    A prediction counts as often as its video is drawn.

    Args:
        videos: index of each prediction's video, in order of rank.
        weights: how often each video is drawn in each resample.
        ranks: ranks to return the counts for, ascending.
    """
    found, below = [], np.zeros(weights.shape[1], np.float32)
    for begin in range(0, int(ranks.max(initial=-1)) + 1, _ROWS):
        counts = np.cumsum(weights[videos[begin : begin + _ROWS]], axis=0)
        counts += below
        here = (ranks >= begin) & (ranks < begin + _ROWS)
        found.append(counts[ranks[here] - begin])
        below = counts[-1]
    return np.concatenate([np.zeros((0, weights.shape[1]), np.float32), *found])


_ROWS = 2048
"""Number of predictions that are counted at a time; bounds memory."""


def _precision_sum(
    right: Float[np.ndarray, "right draws"], predictions: Float[np.ndarray, "right draws"]
) -> Float[np.ndarray, " draws"]:
    """Sum the interpolated precision over the true positives of each resample.

    Args:
        right: how often each true positive (row, in order of rank) is drawn in each resample (column).
        predictions: number of predictions up to and including each true positive, in each resample.
    """
    precision = np.cumsum(right, axis=0)
    precision /= np.maximum(predictions, 1)
    highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.einsum("kd,kd->d", right, highest)


def _ratios(hits: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute precision, recall and F1 from the numbers of correct, predicted and true segments.

    Without true segments, all three are NaN. With true segments but no predicted ones, only precision is NaN.
    """
    found = (hits / predicted, hits / true.clamp_min(1), 2 * hits / (predicted + true).clamp_min(1))
    return tuple(each.masked_fill(true == 0, torch.nan) for each in found)  # type: ignore[return-value]


def _count(segments: Segments, videos: int, classes: int) -> Float[np.ndarray, "videos classes"]:
    cells = segments.videos * classes + segments.classes
    return np.bincount(cells, minlength=videos * classes).reshape(videos, classes).astype(float)


def _in_several_units(truth: Segments, classes: int, resampling: Resampling | None) -> Bool[Tensor, " classes"]:
    """Return, for each class, whether the bootstrap can give a confidence interval.

    It can if true segments of the class are in more than one unit (group or single video).
    """
    if resampling is None or not resampling.draws:
        return torch.zeros(classes, dtype=torch.bool)
    return in_several_units(torch.from_numpy(_count(truth, len(resampling.units), classes)) > 0, resampling)


def _mean(values: Float[np.ndarray, " n"]) -> float:
    return float(values.mean()) if values.size else float("nan")
