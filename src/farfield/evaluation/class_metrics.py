"""Metrics of each class, their averages, and 95% confidence intervals.

Every function takes a matrix of scores and a matrix of targets, both (videos, classes). The same code therefore
measures tests in which a video has one class (one-hot targets), and tests in which it has several classes or none.
torchmetrics computes the values, except the sample-wise mean, because torchmetrics'
`multilabel_ranking_average_precision` gives no value for each video.

Each class is measured as a binary decision: does the video have this class? A video that has it is a positive of the
class, any other video a negative. Precision, recall and F1 depend on the yes-or-no decisions. Average precision and the
area under the ROC curve (ROC-AUC) depend only on the order of the scores.

- macro: mean over the classes. The macro average precision is the mAP, MMAction2's `mean_average_precision`.
- micro: the metric over all (video, class) pairs together. If every video has one class and one predicted class, micro
  precision, recall and F1 all equal top-1 accuracy.
- sample-wise: the average precision of the ranking of the classes within a video, averaged over the videos. This is
  MMAction2's `mmit_mean_average_precision` (mmaction/evaluation/functional/accuracy.py at 5174d7d), used for
  Multi-Moments in Time.

A class whose metric is NaN is left out of the metric's macro average. Special cases:
- A class has no positives: All its metrics are NaN. The multilabel functions of torchmetrics 1.9 return 0 for such a
  class, and their macro averages include this 0.
- A class has no negatives: Its ROC-AUC is NaN.
- A class is never predicted: Its precision is 0 / 0 and therefore NaN, as with scikit-learn's `zero_division=nan`;
  torchmetrics returns 0. Its F1 is 0 if the class has positives.
- No class is ever predicted: Micro precision is NaN.
- A video has no class: It is left out of the sample-wise mean; torchmetrics counts it as 1.

Intervals are percentiles of a bootstrap over units: groups, or single videos if they have no groups, see `resampling`.
The percentiles are shifted so that the mean over the resamples equals the measured value. The average precision of a
resample is usually higher than the measured one, because a positive that is drawn twice raises the precision at both
copies. This bias is small for one class but has the same sign for all classes. Without the shift, the macro average of
many rare classes would lie below its own interval. A class whose positives are all in one unit has no interval, because
resampling cannot show how other positives would be scored. With few positives, an interval is too narrow; at a value of
0 or 1, it may have no width. With fewer than `resampling.MIN_UNITS` units, there are no intervals at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_f1_score,
    binary_precision,
    binary_recall,
)

from farfield.evaluation.metrics import Estimate
from farfield.evaluation.resampling import (
    MIN_UNITS,
    resample_weights,
    sample_average_precision,
    too_few_units,
    weighted_decision_metrics,
    weighted_ranking_metrics,
)
from farfield.progress import ProgressBar

MAX_DRAWS, MIN_DRAWS = 1000, 200
"""Largest and smallest number of resamples; large tests use fewer than `MAX_DRAWS` to save time."""
_MAX_DRAWN_CELLS = 1_600_000_000
"""Maximum of videos x classes x resamples, except that `MIN_DRAWS` resamples may exceed it.

Tests that would exceed it with `MAX_DRAWS` resamples use fewer.
"""
MAX_CELLS = 40_000_000
"""Maximum of videos x classes. Larger tests have no intervals."""


@dataclass(frozen=True)
class Averaged:
    """A metric of each class, with its macro and micro average. A value that is undefined is NaN.

    If there is no confidence interval, its bounds are NaN.
    """

    per_class: list[Estimate]
    macro: Estimate
    micro: Estimate


@dataclass(frozen=True)
class DecisionCounts:
    """Counts for each class, from which its precision, recall and F1 are computed.

    Attributes:
        true_positives: number of videos (or segments) for which the class is correctly predicted.
        predicted: number of videos (or segments) for which the class is predicted.
        positives: number of videos (or segments) that have the class.
    """

    true_positives: list[int]
    predicted: list[int]
    positives: list[int]


@dataclass(frozen=True)
class DecisionMetrics:
    """Precision, recall and F1 of each class, their averages, and the counts from which they are computed."""

    precision: Averaged
    recall: Averaged
    f1: Averaged
    counts: DecisionCounts

    @property
    def by_name(self) -> dict[str, Averaged]:
        """Return the metrics by their names: precision, recall and f1."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class RankingMetrics:
    """Average precision and ROC-AUC, which depend on the order of the scores only.

    `sample_average_precision` is MMAction2's `mmit_mean_average_precision`.
    """

    average_precision: Averaged
    roc_auc: Averaged
    sample_average_precision: Estimate


@dataclass(frozen=True)
class Resampling:
    """Settings of the bootstrap that computes confidence intervals.

    Args:
        units: for each video, the index of its unit, from `sampling_units`. A unit is a group, or a video without a
            group. The videos of a unit are drawn together.
        draws: number of resamples; 0 for no intervals.
        seed: random seed.
    """

    units: Int[Tensor, " n"]
    draws: int = MAX_DRAWS
    seed: int = 0

    @classmethod
    def of_units(cls, units: Int[Tensor, " n"], classes: int) -> Resampling:
        """Choose the number of resamples: few enough that a bootstrap takes about 20 seconds at most.

        Args:
            units: for each video, the index of its unit, from `sampling_units`.
            classes: number of classes.

        Returns:
            Settings with `MAX_DRAWS` resamples, or fewer for large tests. If videos x classes exceed `MAX_CELLS`, or if
            there are fewer than `MIN_UNITS` units, the number of resamples is 0.
        """
        found, cells = cls(units, draws=0), len(units) * classes
        if found.number_of_units < MIN_UNITS or cells > MAX_CELLS:
            return found
        return cls(found.units, draws=min(MAX_DRAWS, max(MIN_DRAWS, _MAX_DRAWN_CELLS // cells)))

    @property
    def number_of_units(self) -> int:
        """Return the number of different units."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    def why_no_intervals(self, resampled: str) -> str | None:
        """Return why there are no intervals; None if there are intervals.

        Args:
            resampled: word for the units in the returned text: "groups" or "videos".
        """
        if self.draws:
            return None
        return too_few_units(self.number_of_units, resampled) or "too many videos and classes to resample"


def measure_decisions(
    decisions: Bool[Tensor, "n classes"], targets: Bool[Tensor, "n classes"], resampling: Resampling
) -> DecisionMetrics:
    """Measure precision, recall and F1.

    Args:
        decisions: True where the class is predicted for the video.
        targets: True where the video has the class.
        resampling: how intervals are computed.

    Raises:
        ValueError: if there are no videos, or the shapes differ.
    """
    _check(decisions, targets)
    drawn: list[list[Tensor]] = [[], [], []]
    pooled: list[list[Tensor]] = [[], [], []]
    for weights in _weights(resampling):
        for place, values in enumerate(weighted_decision_metrics(decisions, targets, weights)):
            drawn[place].append(values)
        for place, values in enumerate(_pooled_decision_metrics(decisions, targets, weights)):
            pooled[place].append(values)
    has_interval = in_several_units(targets, resampling)
    averages = []
    for place, metric in enumerate((binary_precision, binary_recall, binary_f1_score)):
        predicted = decisions if metric is binary_precision else torch.ones_like(decisions)
        values = _per_class(metric, decisions.long(), targets, targets.any(0) & predicted.any(0))
        has_micro = bool(targets.any() and predicted.any())
        micro = _pooled(metric, decisions.long(), targets) if has_micro else torch.nan
        averages.append(averaged(values, micro, drawn[place], pooled[place], has_interval))
    counts = [each.sum(0).tolist() for each in (decisions & targets, decisions, targets)]
    precision, recall, f1 = averages
    return DecisionMetrics(precision, recall, f1, DecisionCounts(*counts))


def measure_ranking(
    scores: Float[Tensor, "n classes"], targets: Bool[Tensor, "n classes"], resampling: Resampling
) -> RankingMetrics:
    """Measure average precision, ROC-AUC and sample-wise average precision.

    Args:
        scores: probabilities, in [0, 1].
        targets: True where the video has the class.
        resampling: how intervals are computed.

    Raises:
        ValueError: if there are no videos, the shapes differ, or scores are outside [0, 1]. torchmetrics would take
            such scores for logits and apply a sigmoid, which rounds all large scores to 1.
    """
    _check(scores, targets)
    if not ((scores >= -1e-5) & (scores <= 1 + 1e-5)).all():
        raise ValueError(
            f"scores are in [{float(scores.min())}, {float(scores.max())}]; they must be probabilities, in [0, 1]. "
            "Apply a softmax or a sigmoid."
        )
    scores = scores.clamp(0, 1)  # a float32 softmax may exceed 1 by an ulp
    positives, of_video = targets.any(0), sample_average_precision(scores, targets)
    drawn: dict[str, list[Tensor]] = {"ap": [], "auc": [], "micro_ap": [], "micro_auc": [], "sample": []}
    classes = positives.nonzero().flatten().tolist()
    with ProgressBar(total=2 * resampling.draws * len(classes), desc="intervals", leave=False, delay=2) as bar:
        for weights in _weights(resampling):
            for name in ("ap", "auc"):
                drawn[name].append(torch.full((weights.shape[1], len(positives)), torch.nan))
            for c in classes:
                found = weighted_ranking_metrics(scores[:, [c]], targets[:, [c]], weights)
                drawn["ap"][-1][:, c], drawn["auc"][-1][:, c] = found
                bar.update(weights.shape[1])
            if classes:
                micro = weighted_ranking_metrics(scores, targets, weights)
                drawn["micro_ap"].append(micro[0])
                drawn["micro_auc"].append(micro[1])
                bar.update(weights.shape[1] * len(classes))
            drawn["sample"].append(_weighted_mean(of_video, weights))
    precisions = _per_class(binary_average_precision, scores, targets, positives)
    areas = _per_class(binary_auroc, scores, targets, positives & ~targets.all(0))
    has_interval = in_several_units(targets, resampling)
    micro_precision = _pooled(binary_average_precision, scores, targets) if classes else torch.nan
    micro_area = _pooled(binary_auroc, scores, targets) if classes and not targets.all() else torch.nan
    return RankingMetrics(
        averaged(precisions, micro_precision, drawn["ap"], drawn["micro_ap"], has_interval),
        averaged(areas, micro_area, drawn["auc"], drawn["micro_auc"], has_interval),
        estimate_from_draws(float(of_video.nanmean()), _joined(drawn["sample"])),
    )


def mean_average_precision(scores: Float[Tensor, "n classes"], targets: Bool[Tensor, "n classes"]) -> float:
    """Return the mean of the classes' average precision (mAP), without an interval.

    Classes without positives are left out. The result is NaN if no class has positives.

    Args:
        scores: probabilities, in [0, 1].
        targets: True where the video has the class.
    """
    return float(_per_class(binary_average_precision, scores.clamp(0, 1), targets, targets.any(0)).nanmean())


def _check(given: Tensor, targets: Tensor) -> None:
    if not len(targets) or given.shape != targets.shape:
        raise ValueError(
            f"scores or decisions have shape {tuple(given.shape)}, and targets {tuple(targets.shape)}. Give one row "
            "for each video (at least 1) and one column for each class."
        )


def _weights(resampling: Resampling) -> Iterator[Tensor]:
    return resample_weights(resampling.units, draws=resampling.draws, seed=resampling.seed)


def in_several_units(targets: Bool[Tensor, "n classes"], resampling: Resampling) -> Bool[Tensor, " classes"]:
    """Return for each class whether its positives are in more than one unit (group or single video)."""
    units = resampling.units[:, None].expand(targets.shape)
    first = units.masked_fill(~targets, int(resampling.units.max()) + 1).amin(0)
    last = units.masked_fill(~targets, -1).amax(0)
    return first < last


def _per_class(
    metric: Callable[..., Tensor], given: Tensor, targets: Tensor, defined: Bool[Tensor, " classes"]
) -> Float[Tensor, " classes"]:
    """Compute a torchmetrics metric for each class; NaN where `defined` is False.

    `given` holds the scores or decisions, (videos, classes).
    """
    values = torch.full((targets.shape[1],), torch.nan)
    columns, wanted = given.T.contiguous(), targets.T.long().contiguous()  # half the time of strided columns
    for c in defined.nonzero().flatten().tolist():
        values[c] = metric(columns[c], wanted[c], validate_args=False)
    return values


def _pooled(metric: Callable[..., Tensor], given: Tensor, targets: Tensor) -> float:
    """Compute a torchmetrics metric over all pairs of a video and a class.

    `given` holds the scores or decisions, (videos, classes).
    """
    return float(metric(given.flatten(), targets.flatten().long(), validate_args=False))


def _pooled_decision_metrics(
    decisions: Bool[Tensor, "n classes"], targets: Bool[Tensor, "n classes"], weights: Float[Tensor, "n draws"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute micro precision, recall and F1 (over all (video, class) pairs together) on each resample.

    Args:
        decisions: True where the class is predicted for the video.
        targets: True where the video has the class.
        weights: how often each resample contains each video.
    """
    counts = torch.stack([(decisions & targets).sum(1), decisions.sum(1), targets.sum(1)], dim=1).double()
    hits, decided, positives = (weights.T.double() @ counts).unbind(1)
    f1 = 2 * hits / (decided + positives).clamp_min(1)
    found = (hits / decided, hits / positives.clamp_min(1), f1)  # precision: 0 / 0 = NaN, as wanted
    return tuple(each.masked_fill(positives == 0, torch.nan) for each in found)  # type: ignore[return-value]


def _weighted_mean(values: Float[Tensor, " n"], weights: Float[Tensor, "n draws"]) -> Float[Tensor, " draws"]:
    known = ~values.isnan()
    return (values[known] @ weights[known]) / weights[known].sum(0)


def averaged(
    values: Float[Tensor, " classes"],
    micro: float,
    drawn: list[Tensor],
    drawn_micro: list[Tensor],
    has_interval: Bool[Tensor, " classes"],
) -> Averaged:
    """Compute a metric's macro average, and the 95% intervals of its class values, macro average and micro average.

    The macro average is taken over the classes that have a value. The averages have an interval only if a class has
    one.

    Args:
        values: value of each class; NaN if it has none.
        micro: micro average (value over all pairs of a video and a class).
        drawn: value of each class on each resample: tensors (draws, classes), to be concatenated; empty for no
            intervals.
        drawn_micro: micro average on each resample: tensors (draws,), to be concatenated; empty for no intervals.
        has_interval: whether each class has an interval, see `in_several_units`.
    """
    samples, samples_micro = _joined(drawn), _joined(drawn_micro)
    if not has_interval.any():
        samples = samples_micro = None
    per_class = [
        estimate_from_draws(value, samples[:, c] if samples is not None and has_interval[c] else None)
        for c, value in enumerate(values.tolist())
    ]
    macro = estimate_from_draws(float(values.nanmean()), None if samples is None else samples.nanmean(1))
    return Averaged(per_class, macro, estimate_from_draws(micro, samples_micro))


def _joined(parts: list[Tensor]) -> Tensor | None:
    return torch.cat(parts) if parts else None


def estimate_from_draws(value: float, drawn: Float[Tensor, " draws"] | None) -> Estimate:
    """Return a value and its 95% interval: percentiles of the resampled values, shifted so that their mean is `value`.

    The bounds are NaN if there are no resamples, or if the value is NaN.

    Args:
        value: value on all videos.
        drawn: value on each resample; None if there are no resamples.
    """
    if drawn is None or value != value:
        return Estimate(value, torch.nan, torch.nan)
    drawn = drawn.double()
    bounds = drawn.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)) + value - drawn.nanmean()
    low, high = bounds.clamp(0, 1).tolist()
    return Estimate(value, min(low, value), max(high, value))  # equal ones may differ by rounding
