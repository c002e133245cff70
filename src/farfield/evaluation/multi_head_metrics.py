"""Metrics of a multi_head test, such as of a verb and a noun: of the combination of all heads, and of each head."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from farfield.evaluation.metrics import Estimate, wilson
from farfield.evaluation.scores_file import Scores
from farfield.scoring.joint_ranking import rank_jointly
from farfield.task import split_heads


@dataclass(frozen=True)
class JointMetrics:
    """Accuracy of combinations of one class of each head, ranked by the product of their probabilities.

    A combination is right if the class of every head is. Intervals are Wilson's.

    Attributes:
        top1: share of videos whose most probable combination is right.
        top5: share of videos of which one of the five most probable combinations is right.
    """

    top1: Estimate
    top5: Estimate


def measure_jointly(scores: Scores) -> JointMetrics:
    """Measure the accuracy of combinations in the scores of a multi_head network."""
    heads = scores_of_heads(scores).values()
    ranking, _ = rank_jointly([each.probabilities for each in heads], 5)
    hits = (ranking == torch.stack([each.targets for each in heads], 1)[:, None]).all(2)
    return JointMetrics(wilson(int(hits[:, 0].sum()), len(hits)), wilson(int(hits.sum()), len(hits)))


def scores_of_heads(scores: Scores) -> dict[str, Scores]:
    """Return the scores of each head of a multi_head network, as those of a single-label network of its classes."""
    heads = split_heads(scores.labels)
    sizes = [len(names) for names in heads.values()]
    parts = zip(scores.target_matrix().split(sizes, 1), scores.views.split(sizes, 2), strict=True)
    return {
        head: Scores(names, scores.paths, targets.int().argmax(1), views, scores.segments, scores.views_aggregation)
        for (head, names), (targets, views) in zip(heads.items(), parts, strict=True)
    }
