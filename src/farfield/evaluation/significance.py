"""Paired bootstrap: significance of the difference between two runs on the same videos.

The videos, or groups of videos, are resampled with replacement many times, and the difference of the two runs' metrics
is computed on each sample. The quantiles of these differences are the bounds of the confidence interval. Pairing
removes the variance due to videos that are easy or hard for both runs.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Koehn, EMNLP 2004.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.evaluation.resampling import MIN_UNITS
from farfield.evaluation.split_resampling import SplitValues, number_of_units, resample_splits


@dataclass(frozen=True)
class Difference:
    """Difference of a metric between run B and run A.

    Attributes:
        a: metric of run A.
        b: metric of run B.
        value: b - a.
        low: lower bound of the 95% confidence interval.
        high: upper bound of the 95% confidence interval.
        p_value: two-sided p-value: probability of an absolute difference of at least |b - a| if the runs were equally
            good.

    `low`, `high` and `p_value` are NaN if there were too few videos, or groups of videos, to resample.
    """

    a: float
    b: float
    value: float
    low: float
    high: float
    p_value: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the difference as plain types, for JSON. Undefined values are None."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def paired_bootstrap(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    *,
    classes: Int[np.ndarray, " n"] | None = None,
    units: Int[Tensor, " n"] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compare two runs by one score per video, such as 1 for a correct prediction and 0 for a wrong one.

    With fewer than `resampling.MIN_UNITS` units, interval and p-value are NaN.

    Args:
        a: scores of run A.
        b: scores of run B, for the same videos in the same order.
        classes: class of each video, if the metric is the mean of the classes' mean scores; None if it is the mean over
            videos. Videos are drawn from all classes together, and the metric of a bootstrap sample averages only the
            classes that occur in the sample. (Drawing within each class would underestimate the variance of a class
            with few videos: for one video, it would be 0.)
        units: for each video, the index of its unit, from `resampling.sampling_units`. The videos of a unit are drawn
            together. None to draw single videos.
        draws: number of bootstrap samples.
        seed: random seed.

    Raises:
        ValueError: if there are no videos, or the lengths of the arguments differ.
    """
    n = len(a)
    if not n or n != len(b):
        raise ValueError(
            f"a has {n} scores and b has {len(b)}. Give one score per video in each of them, for the same "
            "videos. At least one video is needed."
        )
    for name, given in (("classes", classes), ("units", units)):
        if given is not None and len(given) != n:
            raise ValueError(f"{name} has {len(given)} entries for {n} videos. Give one per video.")
    mean_a, mean_b = (SplitValues(np.asarray(each, np.float64), classes).mean() for each in (a, b))
    units = torch.arange(n) if units is None else units
    if number_of_units([units]) < MIN_UNITS:
        return difference_of_draws(mean_a, mean_b, None)
    difference = SplitValues(np.asarray(b, np.float64) - np.asarray(a, np.float64), classes)
    return difference_of_draws(mean_a, mean_b, resample_splits([[difference]], [units], draws=draws, seed=seed)[0][0])


def difference_of_draws(a: float, b: float, drawn: Float[np.ndarray, " draws"] | None) -> Difference:
    """Return the difference b - a, with its interval and p-value from bootstrap samples.

    Args:
        a: metric of run A.
        b: metric of run B.
        drawn: difference (B minus A) of the metrics on each bootstrap sample. None if there are too few units to
            resample; interval and p-value are then NaN.
    """
    value = b - a
    if drawn is None:
        return Difference(a, b, value, math.nan, math.nan, math.nan)
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Under the null hypothesis the draws are distributed around 0 as they are here around `value`.
    as_large = np.abs(drawn - value) >= abs(value) - 1e-12
    p_value = (int(as_large.sum()) + 1) / (len(drawn) + 1)
    return Difference(a, b, value, float(low), float(high), p_value)
