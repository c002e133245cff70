"""Is one run better than another, or luckier? Both scored the same videos, so the videos are drawn together.

The paired bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Koehn, EMNLP 2004): draw as many
videos as there are, with replacement, and take the difference of the two runs' figures on them; again and again. Its
quantiles are the difference's interval. Paired, what makes a video hard for both drops out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Difference:
    """A figure of run B less that of run A.

    Attributes:
        a: figure of the first.
        b: figure of the second.
        value: b - a.
        low: where the 95% interval begins.
        high: where it ends.
        p_value: two-sided: how often, were there no difference, one at least as large would be drawn.
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
    """Compares two runs by a number for each video, as whether it is right.

    Args:
        a: numbers of the first run.
        b: numbers of the second, of the same videos in the same order.
        groups: the figure is the mean over groups (classes) of each one's mean; None for the mean over videos.
            Videos are drawn from all, and a draw's figure is over the groups that occur in it: drawn within its group,
            a class with few videos would seem to vary less than it does, and one with a single video not at all.
        draws: of the bootstrap.
        seed: of its randomness.

    Raises:
        ValueError: for no videos, or not the same number in all.
    """
    if not len(a) or len(a) != len(b):
        raise ValueError(f"paired scores must be of the same videos; given {len(a)} and {len(b)}.")
    n = len(a)
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups must be of the same videos; given {len(groups)} for {n}.")
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
    value = means[1] - means[0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Under no difference, the draws lie around 0 as they now lie around `value`.
    as_large = np.abs(drawn - value) >= abs(value) - 1e-12
    p_value = (int(as_large.sum()) + 1) / (draws + 1)
    return Difference(means[0], means[1], value, float(low), float(high), p_value)


def _group_means(
    values: Float[np.ndarray, "draws n"], groups: Int[np.ndarray, "draws n"], num_groups: int
) -> Float[np.ndarray, " draws"]:
    """For each draw the mean over the groups that occur in it of each one's mean."""
    draws = len(values)
    places = (groups + num_groups * np.arange(draws)[:, None]).ravel()
    sums = np.bincount(places, values.ravel(), draws * num_groups).reshape(draws, num_groups)
    counts = np.bincount(places, minlength=draws * num_groups).reshape(draws, num_groups)
    return (sums / np.maximum(counts, 1)).sum(1) / (counts > 0).sum(1)
