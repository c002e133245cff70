"""The main metrics of a multilabel test, with 95% confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from farfield.evaluation.class_metrics import RankingMetrics
from farfield.evaluation.group_intervals import widen_by_units
from farfield.evaluation.metrics import Estimate, wilson
from farfield.evaluation.split_resampling import SplitValues


@dataclass(frozen=True)
class MultilabelMetrics:
    """Metrics of a multilabel test, in which a video may have several classes, or none.

    Attributes:
        mean_average_precision: mean average precision (mAP) over the classes that at least one video has.
        micro_average_precision: average precision of all (video, class) pairs, ranked together.
        sample_average_precision: average precision of the ranking of the classes within a video, averaged over the
            videos with at least one true class; MMAction2's `mmit_mean_average_precision`.
        exact_match: share of videos whose predicted classes are exactly their true classes. The interval is Wilson's,
            widened for groups of videos, see `group_intervals`.
        share_without_class: share of videos without a true class.
        share_without_decision: share of videos without a predicted class.
    """

    mean_average_precision: Estimate
    micro_average_precision: Estimate
    sample_average_precision: Estimate
    exact_match: Estimate
    share_without_class: float
    share_without_decision: float


def measure_multilabel(
    ranking: RankingMetrics,
    decisions: Bool[Tensor, "n classes"],
    targets: Bool[Tensor, "n classes"],
    units: Int[Tensor, " n"] | None = None,
) -> MultilabelMetrics:
    """Compute the main metrics of a multilabel test.

    Args:
        ranking: average precision and ROC-AUC of the scores.
        decisions: True where the class is predicted for the video.
        targets: True where the video has the class.
        units: for each video, the index of its unit, from `sampling_units`; None if each video is a unit.
    """
    matches = SplitValues((decisions == targets).all(1).double().numpy())
    plain = wilson(int(matches.values.sum()), len(targets))
    return MultilabelMetrics(
        ranking.average_precision.macro,
        ranking.average_precision.micro,
        ranking.sample_average_precision,
        widen_by_units([plain], [matches], units)[0],
        float((~targets.any(1)).float().mean()),
        float((~decisions.any(1)).float().mean()),
    )
