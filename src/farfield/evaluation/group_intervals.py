"""Confidence intervals of accuracies for groups of videos, such as clips of one person, or segments of one video.

Videos of one group are similarly easy or hard, so that they tell less about the accuracy than as many independent
videos. The same holds for segments of one video. Wilson's interval is therefore widened to contain the percentile
interval of a bootstrap over groups or whole videos (cluster bootstrap; Davison and Hinkley, "Bootstrap Methods and
their Application", 1997, section 3.8). With fewer than about ten groups, the interval is still too narrow, see
`resampling`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from farfield.evaluation.metrics import Estimate, Metrics, measure, most_probable
from farfield.evaluation.split_resampling import SplitValues, number_of_units, resample_splits

DRAWS = 2_000
"""Number of resamples."""


def measure_in_units(
    probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], units: Int[Tensor, " n"] | None
) -> Metrics:
    """Compute all accuracy metrics of scored videos, with intervals that are widened by `widen_by_units`.

    Args:
        probabilities: class probabilities of each video.
        labels: index of each video's true class.
        units: index of each video's unit, see `widen_by_units`.
    """
    plain = measure(probabilities, labels)
    in_top5 = most_probable(probabilities, 5) == labels[:, None]
    right, among_five = (each.double().numpy() for each in (in_top5[:, 0], in_top5.any(1)))
    top1, top5, mean_class_accuracy = widen_by_units(
        [plain.top1, plain.top5, plain.mean_class_accuracy],
        [SplitValues(right), SplitValues(among_five), SplitValues(right, labels.numpy())],
        units,
    )
    return Metrics(top1, top5, mean_class_accuracy, plain.confusion)


def widen_by_units(
    estimates: Sequence[Estimate], values: Sequence[SplitValues], units: Int[Tensor, " n"] | None
) -> list[Estimate]:
    """Widen the intervals of estimates so that they also contain those of a bootstrap over units.

    Args:
        estimates: estimates with intervals for independent videos.
        values: for each estimate, the values of the videos of which it is the mean.
        units: for each video, the index of its unit (its group, for example), from `sampling_units`. If each video is
            a unit of its own, or if `units` is None, the estimates are returned unchanged.
    """
    if units is None or len(units) == 0 or number_of_units([units]) == len(units):
        return list(estimates)
    drawn = resample_splits([[each] for each in values], [units], draws=DRAWS, seed=0)
    return [widen(each, rows[0]) for each, rows in zip(estimates, drawn, strict=True)]


def widen(estimate: Estimate, drawn: Float[np.ndarray, " draws"]) -> Estimate:
    """Widen the interval of an estimate so that it also contains the 95% interval of the bootstrap values `drawn`."""
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(estimate.value, min(estimate.low, float(low)), max(estimate.high, float(high)))
