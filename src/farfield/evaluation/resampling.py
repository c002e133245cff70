"""Bootstrap of per-class metrics: resample videos, or groups of videos, and measure every class on each resample.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993. The units of the bootstrap are videos, or groups of
videos. For n units, a resample draws n of them with replacement. It is stored as weights: how often each video was
drawn. Videos of one group have the same weight, because they are drawn together.

With few units, the intervals of such a bootstrap are far too narrow: two groups give only three different resamples.
Cameron, Gelbach and Miller, "Bootstrap-Based Improvements for Inference with Clustered Errors", Review of Economics and
Statistics 90(3), 2008, find that significance tests that resample clusters reject too often if there are few clusters
(five to thirty). Below `MIN_UNITS` units there are therefore no intervals.

torchmetrics can measure only one resample per call, and most of its functions take no weights. The metrics of
the resamples are therefore computed here, for many resamples at once. Unit tests compare them with scikit-learn's on
weighted samples.

For the average precision (AP) and the area under the ROC curve (AUC) of a class, it is enough to sum over the scores of
its positives. Let u_1 > ... > u_J be the distinct scores of the positives, and let u_0 be infinity. Then:

    AP  = sum_j (p_j / P) * TP_j / (TP_j + FP_j)
    AUC = sum_j (p_j / P) * (N - FP_j + q_j / 2) / N

These symbols are total weights:
- p_j: of the positives with score u_j
- q_j: of the negatives with score u_j
- g_j: of the negatives with a score above u_j and below u_{j-1}
- TP_j = sum_{i<=j} p_i: of the positives with a score of at least u_j
- FP_j = sum_{i<=j} (g_i + q_i): of the negatives with a score of at least u_j
- P = TP_J: of all positives
- N: of all negatives
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MIN_UNITS = 10
"""Minimum number of units (groups or videos) for intervals. The value has no source; it is a choice of this project."""
_MAX_CELLS = 5_000_000
"""Maximum number of weights or sums in memory at a time."""
_CACHED_CELLS = 20_000
"""Maximum number of units that are drawn at once: several resamples of few units, which is faster than one by one."""


def sampling_units(groups: Sequence[str | None] | None, videos: Sequence[Hashable]) -> Int[Tensor, " n"]:
    """Return the index of each row's unit. A unit of the bootstrap is a group of videos, or a video without a group.

    Args:
        groups: group of each row (None for a row without a group), or None if no row has a group.
        videos: video of each row, such as its path. Several rows may be segments of one video.
    """
    names = [None] * len(videos) if groups is None else groups
    numbers: dict[object, int] = {}
    keys = [("video", video) if name is None else ("group", name) for name, video in zip(names, videos, strict=True)]
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys], dtype=torch.int64)


def too_few_units(units: int, resampled: str) -> str | None:
    """Return why there are no intervals; None if there are at least `MIN_UNITS` units.

    Args:
        units: number of units.
        resampled: word for the units in the returned text: "groups" or "videos".
    """
    if units >= MIN_UNITS:
        return None
    return f"too few {resampled} ({units}) for an interval; at least {MIN_UNITS} are needed"


def resample_weights(units: Int[Tensor, " n"], *, draws: int, seed: int) -> Iterator[Float[Tensor, "n some"]]:
    """Draw `draws` resamples, and yield their weights in blocks that fit into memory.

    A block has a row for each video and a column for each resample in the block. A weight (float32) is the number of
    times that the resample contains the video.

    Args:
        units: unit of each video, as `sampling_units` numbers them.
        draws: number of resamples.
        seed: random seed.
    """
    rng, count = np.random.default_rng(seed), int(units.max()) + 1
    at_once = max(_MAX_CELLS // len(units), 1)
    for columns in _parts(draws, at_once):
        drawn = np.concatenate(
            [_drawn_counts(rng, count, rows) for rows in _parts(columns, max(_CACHED_CELLS // count, 1))]
        )
        yield torch.from_numpy(drawn.T).float()[units]


def _parts(total: int, most: int) -> list[int]:
    """Divide `total` into parts of `most`, and a smaller last part."""
    return [min(most, total - begin) for begin in range(0, total, most)]


def _drawn_counts(rng: np.random.Generator, count: int, rows: int) -> Int[np.ndarray, "rows count"]:
    """Draw `count` units with replacement, `rows` times. Return how often each unit was drawn each time."""
    drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)


def weighted_decision_metrics(
    decisions: Bool[Tensor, "n classes"], targets: Bool[Tensor, "n classes"], weights: Float[Tensor, "n draws"]
) -> tuple[Float[Tensor, "draws classes"], Float[Tensor, "draws classes"], Float[Tensor, "draws classes"]]:
    """Compute precision, recall and F1 of each class on each resample.

    If a resample has no positives of a class, all three metrics of the class are NaN. If a resample has positives of
    the class, but no video for which the class is predicted, precision is NaN, and recall and F1 are 0.

    Args:
        decisions: True where the class is predicted for the video.
        targets: True where the video has the class.
        weights: how often each resample contains each video.
    """
    hits, decided, positives = (
        weights.T @ each.float() for each in (decisions & targets, decisions, targets)
    )  # exact: counts below 2^24
    without = positives == 0
    precision = hits / decided  # 0 / 0 = NaN, as wanted
    recall = hits / positives.clamp_min(1)
    f1 = 2 * hits / (decided + positives).clamp_min(1)
    return tuple(each.masked_fill(without, torch.nan) for each in (precision, recall, f1))  # type: ignore[return-value]


def weighted_ranking_metrics(
    scores: Float[Tensor, "n classes"], targets: Bool[Tensor, "n classes"], weights: Float[Tensor, "n draws"]
) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"]]:
    """Compute the average precision and the area under the ROC curve on each resample. All scores are ranked together.

    To measure one class, pass only its column of `scores` and `targets`. With the columns of all classes, the metrics
    are the micro averages. In a resample without positives, both metrics are NaN. In a resample without negatives, the
    area is NaN.

    Args:
        scores: scores of any range. A row is a video, or a moment of one.
        targets: True for positives; at least one is needed.
        weights: weight of each row in each resample, at least 0. For a video, it is how often the resample contains the
            video. For a moment, it is how often the resample contains the moment's video, multiplied by the weight of
            the moment, for example its length in seconds.
    """
    levels = scores[targets].unique()  # ascending
    count = len(levels)
    # Rows of sums: 0 .. J - 1 positives at each level, J .. 2J - 1 negatives at each level, 2J .. 3J negatives between.
    at_least, above = (torch.searchsorted(levels, scores, right=right) for right in (True, False))
    at_level = at_least > above
    rows = torch.where(at_level, torch.where(targets, above, count + above), 2 * count + above)
    found = [
        _rank_sums(rows, part.contiguous(), count)
        for part in weights.split(max(_MAX_CELLS // (3 * count + 1), 1), dim=1)
    ]
    average_precision, area = (torch.cat(parts) for parts in zip(*found, strict=True))
    return average_precision, area


def _rank_sums(
    rows: Int[Tensor, "n classes"], weights: Float[Tensor, "n draws"], levels: int
) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"]]:
    sums = torch.zeros(3 * levels + 1, weights.shape[1], dtype=weights.dtype)
    for column in rows.unbind(1):
        sums.index_add_(0, column.contiguous(), weights)
    sums = sums.flip(0)  # highest level first
    between, negatives, positives = sums.split([levels + 1, levels, levels])
    true_positives = positives.cumsum(0)
    false_positives = (between[:levels] + negatives).cumsum(0)
    all_positives, all_negatives = true_positives[-1], false_positives[-1] + between[-1]
    precision = true_positives / (true_positives + false_positives).clamp_min(torch.finfo(weights.dtype).tiny)
    beaten = all_negatives - false_positives + negatives / 2
    share = positives / all_positives  # 0 / 0 = NaN, as wanted
    return (share * precision).sum(0), (share * beaten).sum(0) / all_negatives


def sample_average_precision(
    scores: Float[Tensor, "n classes"], targets: Bool[Tensor, "n classes"]
) -> Float[Tensor, " n"]:
    """Compute the average precision of each video over the classes; NaN for a video without a class.

    For each class c of a video, take all classes whose score is at least that of c, and compute the share of them that
    the video has. The average precision of the video is the mean of these shares.
    """
    total = torch.zeros(len(scores))
    for places in targets.nonzero().split(max(_MAX_CELLS // scores.shape[1], 1)):
        rows, classes = places.unbind(1)
        at_least = scores[rows] >= scores[rows, classes][:, None]
        total.index_add_(0, rows, (at_least & targets[rows]).sum(1) / at_least.sum(1))
    return total / targets.sum(1)  # 0 / 0 = NaN, as wanted
