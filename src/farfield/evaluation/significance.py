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
            Videos are then drawn within their groups, so that none is without.
        draws: of the bootstrap.
        seed: of its randomness.

    Raises:
        ValueError: for no videos, or not the same number in both.
    """
    if not len(a) or len(a) != len(b):
        raise ValueError(f"paired scores must be of the same videos; given {len(a)} and {len(b)}.")
    members = [np.arange(len(a))] if groups is None else [np.flatnonzero(groups == g) for g in np.unique(groups)]
    rng = np.random.default_rng(seed)
    difference = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    drawn = np.zeros(draws)
    for rows in members:
        of_group = difference[rows]
        for begin in range(0, draws, 500):  # bounds memory
            count = min(500, draws - begin)
            chosen = rng.integers(len(rows), size=(count, len(rows)))
            drawn[begin : begin + count] += of_group[chosen].mean(1) / len(members)
    value = float(np.mean([difference[rows].mean() for rows in members]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Under no difference, the draws lie around 0 as they now lie around `value`.
    as_large = np.abs(drawn - value) >= abs(value) - 1e-12
    p_value = (int(as_large.sum()) + 1) / (draws + 1)
    means = [float(np.mean([np.asarray(each, np.float64)[rows].mean() for rows in members])) for each in (a, b)]
    return Difference(means[0], means[1], value, float(low), float(high), p_value)
