"""Metrics of a network with several heads, such as verb and noun: for combinations of all heads, and for each head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from farfield.evaluation.group_intervals import widen_by_units
from farfield.evaluation.metrics import Estimate, wilson
from farfield.evaluation.scores_file import Scores, check_numbers
from farfield.evaluation.split_resampling import SplitValues
from farfield.scoring.joint_ranking import joint_hits
from farfield.task import head_columns, split_heads


@dataclass(frozen=True)
class JointMetrics:
    """Accuracy of combinations (one class per head), ranked by the product of the class probabilities.

    A combination is right if all its classes are right. Intervals are Wilson's, widened for groups of videos, see
    `group_intervals`.

    Attributes:
        top1: share of videos whose most probable combination is right.
        top5: share of videos for which one of the five most probable combinations is right.
    """

    top1: Estimate
    top5: Estimate


def measure_jointly(scores: Scores, units: Int[Tensor, " n"] | None = None) -> JointMetrics:
    """Measure the accuracy of combinations of one class per head, such as (verb, noun), for a `multi_head` network.

    Args:
        scores: scores of a `multi_head` network.
        units: for each video, the index of its unit, from `sampling_units`; None if each video is a unit.
    """
    check_numbers(scores)
    heads = scores_of_heads(scores).values()
    targets = torch.stack([each.targets for each in heads], 1)
    hits = joint_hits([each.probabilities for each in heads], targets, 5)
    in_top = [SplitValues(each.double().numpy()) for each in (hits[:, 0], hits.any(1))]
    plain = [wilson(int(each.values.sum()), len(hits)) for each in in_top]
    return JointMetrics(*widen_by_units(plain, in_top, units))


def scores_of_heads(scores: Scores) -> dict[str, Scores]:
    """Return the scores of each head of a `multi_head` network, as if each head were a single-label network."""
    targets, columns = scores.target_matrix().int(), head_columns(scores.labels)
    return {
        head: Scores(
            names,
            scores.paths,
            targets[:, columns[head]].argmax(1),
            scores.views[:, :, columns[head]],
            scores.segments,
            scores.views_aggregation,
        )
        for head, names in split_heads(scores.labels).items()
    }
