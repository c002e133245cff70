"""Confidence intervals of accuracies if the videos belong to groups, such as clips of one person or source video.

Videos of one group are similarly easy or hard, so that they tell less about the accuracy than as many independent
videos. Wilson's interval is therefore widened to contain the percentile interval of a bootstrap over groups (cluster
bootstrap; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). With fewer than about ten
groups, the interval is still too narrow, see `resampling`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from farfield.evaluation.metrics import Estimate
from farfield.evaluation.resampling import sampling_units
from farfield.evaluation.split_resampling import SplitValues, number_of_units, resample_splits

DRAWS = 2_000
"""Number of resamples."""


def widen_by_groups(
    estimates: Sequence[Estimate], values: Sequence[SplitValues], groups: Sequence[str | None] | None
) -> list[Estimate]:
    """Widen the intervals of estimates so that they also contain those of a bootstrap over groups.

    Args:
        estimates: estimates with intervals for independent videos.
        values: for each estimate, the values of the videos of which it is the mean.
        groups: group of each video (None for a video without a group), or None if no video has a group. If no two
            videos have the same group, the estimates are returned unchanged.
    """
    if groups is None or len(groups) == 0:
        return list(estimates)
    units = sampling_units(groups, len(groups))
    if number_of_units([units]) == len(groups):
        return list(estimates)
    drawn = resample_splits([[each] for each in values], [units], draws=DRAWS, seed=0)
    return [widen(each, rows[0]) for each, rows in zip(estimates, drawn, strict=True)]


def widen(estimate: Estimate, drawn: Float[np.ndarray, " draws"]) -> Estimate:
    """Widen the interval of an estimate so that it also contains the 95% interval of the bootstrap values `drawn`."""
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(estimate.value, min(estimate.low, float(low)), max(estimate.high, float(high)))
