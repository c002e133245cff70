"""Bootstrap over the videos of all official splits of a data set together.

The tests of several splits are not independent. The test lists of HMDB51 overlap, so that a video is scored by up to
three networks. Moreover, clips of one source video are similarly easy or hard. Videos are therefore resampled in units.
A unit is a group (source video, film, person): all its clips are drawn together, whichever splits they are in. Without
groups, a unit is a video, drawn for all splits that test it (cluster bootstrap; Davison and Hinkley, "Bootstrap Methods
and their Application", 1997, section 3.8).

In a resample, let m_s be the metric of split s. Let w_s be the number of draws of videos of split s, divided by the
number of videos in the split (1 on average). The metric of the resample is sum_s w_s m_s / sum_s w_s. If all videos are
drawn once, it is the mean over the splits. The weights matter for splits with few groups. For example, if all videos of
a split are in one group, the weight of the split is the number of times that the group is drawn: 0 if it is not drawn.

The networks are fixed: the intervals do not include the variation between trainings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.evaluation.resampling import resample_weights, sampling_units


@dataclass(frozen=True)
class SplitValues:
    """One value for each tested video of a split, such as 1 for a correct prediction and 0 for a wrong one.

    Attributes:
        values: value of each video.
        classes: class of each video, if the metric is the mean of the classes' means; None if it is the mean over
            videos.
    """

    values: Float[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"] | None = None

    def mean(self) -> float:
        """Return the metric: the mean over videos, or the mean of the classes' means."""
        if self.classes is None:
            return float(self.values.mean())
        classes = np.unique(self.classes, return_inverse=True)[1]
        return float((np.bincount(classes, self.values) / np.bincount(classes)).mean())


def shared_units(
    paths: Sequence[Sequence[str]], groups: Sequence[Sequence[str | None] | None]
) -> tuple[list[Int[Tensor, " n"]], bool]:
    """Find the resampling unit of each video. A unit has the same index in all splits.

    Args:
        paths: path of each video, for each split.
        groups: for each split, the group of each video (None for a video without a group), or None if the split has no
            groups.

    Returns:
        The index of each video's unit, for each split; and whether the units are groups. They are groups only if all
        splits have groups; a video without a group is then a unit of its own.
    """
    by_group = all(names is not None and any(names) for names in groups)
    names = [name for of_split in groups for name in of_split or ()] if by_group else None
    units = sampling_units(names, [path for of_split in paths for path in of_split])
    return list(units.split([len(each) for each in paths])), by_group


def number_of_units(units: Sequence[Int[Tensor, " n"]]) -> int:
    """Return the number of different units in all splits together."""
    return int(torch.cat(list(units)).max()) + 1


def resample_splits(
    metrics: Sequence[Sequence[SplitValues]], units: Sequence[Int[Tensor, " n"]], *, draws: int, seed: int
) -> list[Float[np.ndarray, "splits_and_mean draws"]]:
    """Compute metrics of each split, and their means over the splits, on resamples of the units.

    Args:
        metrics: for each metric, the values of each split.
        units: unit of each video, for each split, as `shared_units` numbers them.
        draws: number of resamples.
        seed: random seed.

    Returns:
        For each metric, a row for each split and, last, a row for the mean. In resamples without a video of a split,
        the value of the split is NaN.
    """
    count = number_of_units(units)
    totals = [
        [_totals(split, of_split, count) for split, of_split in zip(each, units, strict=True)] for each in metrics
    ]
    videos = torch.stack([torch.bincount(each, minlength=count).double() / len(each) for each in units])
    drawn: list[list[Tensor]] = [[] for _ in metrics]
    for block in resample_weights(torch.arange(count), draws=draws, seed=seed):
        weights = block.double()  # equal accuracies must be equal numbers: p-values count ties
        shares = videos @ weights
        for place, splits in enumerate(totals):
            values = torch.stack([_means(sums, counts, weights) for sums, counts in splits])
            mean = (shares * values.nan_to_num()).sum(0) / shares.sum(0)
            drawn[place].append(torch.cat([values, mean[None]]))
    return [torch.cat(parts, 1).numpy() for parts in drawn]


def _totals(split: SplitValues, units: Int[Tensor, " n"], count: int) -> tuple[Tensor, Tensor]:
    """Sum the values, and count the videos, of each class in each resampling unit.

    Args:
        split: value of each video, and its class.
        units: index of the unit of each video.
        count: number of units in all splits together.

    Returns:
        Two sparse matrices (classes, `count`): the sums, and the numbers of videos.
    """
    n = len(split.values)
    classes = torch.zeros(n, dtype=torch.int64) if split.classes is None else torch.from_numpy(split.classes).long()
    places, size = torch.stack([classes, units]), (int(classes.max()) + 1, count)
    values = torch.from_numpy(np.asarray(split.values, np.float64))
    return tuple(  # type: ignore[return-value]
        torch.sparse_coo_tensor(places, each, size, check_invariants=False).coalesce()
        for each in (values, torch.ones(n, dtype=torch.float64))
    )


def _means(sums: Tensor, counts: Tensor, weights: Float[Tensor, "units draws"]) -> Float[Tensor, " draws"]:
    """Compute the metric of a split on each resample: the mean of the means of all classes that the resample contains.

    With a single class for all videos, this is the mean over videos. If the resample contains no video of the split,
    the metric is NaN.

    Args:
        sums: sum of the values of each class in each unit, from `_totals`.
        counts: number of videos of each class in each unit, from `_totals`.
        weights: how often each resample contains each unit.
    """
    drawn = torch.sparse.mm(counts, weights)
    means = torch.sparse.mm(sums, weights) / drawn.clamp_min(1)
    return means.sum(0) / (drawn > 0).sum(0)  # 0 / 0 = NaN, as wanted
