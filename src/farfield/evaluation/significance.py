"""Paired bootstrap: significance of the difference between two runs on the same videos.

The n videos are resampled with replacement many times, and the difference of the two runs' metrics is computed on each
sample. The quantiles of these differences are the bounds of the confidence interval. Pairing removes the variance due
to videos that are easy or hard for both runs.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Koehn, EMNLP 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


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
    """

    a: float
    b: float
    value: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    *,
    groups: Int[np.ndarray, " n"] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compare two runs by one score per video, such as 1 for a correct prediction and 0 for a wrong one.

    Args:
        a: scores of run A.
        b: scores of run B, for the same videos in the same order.
        groups: index of each video's group, such as its class. With groups, the metric is the mean of the groups' mean
            scores; with None, it is the mean over videos. Videos are drawn from all groups together, and the metric of
            a bootstrap sample averages only the groups that occur in the sample. (Drawing within each group would
            underestimate the variance of a group with few videos: for one video, it would be 0.)
        draws: number of bootstrap samples.
        seed: random seed.

    Raises:
        ValueError: if there are no videos, or the lengths of a, b and groups differ.
    """
    if not len(a) or len(a) != len(b):
        raise ValueError(
            f"a has {len(a)} scores and b has {len(b)}. Give one score per video in each of them, for the same "
            "videos. At least one video is needed."
        )
    n = len(a)
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups has {len(groups)} entries for {n} videos. Give one group per video.")
    of_group = np.zeros(n, np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    num_groups = int(of_group.max()) + 1
    rng = np.random.default_rng(seed)
    difference = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    drawn = np.empty(draws)
    at_once = max(2_000_000 // n, 1)  # bounds memory
    for begin in range(0, draws, at_once):
        chosen = rng.integers(n, size=(min(at_once, draws - begin), n))
        drawn[begin : begin + len(chosen)] = _group_means(difference[chosen], of_group[chosen], num_groups)
    means = [float(_group_means(np.asarray(each, np.float64)[None], of_group[None], num_groups)[0]) for each in (a, b)]
    return difference_of_draws(means[0], means[1], drawn)


def difference_of_draws(a: float, b: float, drawn: Float[np.ndarray, " draws"]) -> Difference:
    """Return the difference b - a, with its interval and p-value from bootstrap samples.

    Args:
        a: metric of run A.
        b: metric of run B.
        drawn: difference (B minus A) of the metrics on each bootstrap sample.
    """
    value = b - a
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Under the null hypothesis the draws are distributed around 0 as they are here around `value`.
    as_large = np.abs(drawn - value) >= abs(value) - 1e-12
    p_value = (int(as_large.sum()) + 1) / (len(drawn) + 1)
    return Difference(a, b, value, float(low), float(high), p_value)


def _group_means(
    values: Float[np.ndarray, "draws n"], groups: Int[np.ndarray, "draws n"], num_groups: int
) -> Float[np.ndarray, " draws"]:
    """Compute, for each draw, the mean of the group means over the groups that occur in the draw."""
    draws = len(values)
    places = (groups + num_groups * np.arange(draws)[:, None]).ravel()
    sums = np.bincount(places, values.ravel(), draws * num_groups).reshape(draws, num_groups)
    counts = np.bincount(places, minlength=draws * num_groups).reshape(draws, num_groups)
    return (sums / np.maximum(counts, 1)).sum(1) / (counts > 0).sum(1)
