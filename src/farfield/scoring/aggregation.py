"""Aggregate the scores of a video's views."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.clip_spec import ViewsAggregation
from farfield.task import Task, class_probabilities


def view_probabilities(
    logits: Float[Tensor, "bv classes"], num_videos: int, task: Task
) -> Float[Tensor, "b views classes"]:
    """Convert the logits of views to class probabilities, grouped by video.

    Args:
        logits: one row per view; the views of each video are consecutive rows.
        num_videos: number of videos (b).
        task: task of the network.
    """
    return class_probabilities(logits.float(), task).unflatten(0, (num_videos, -1))


def aggregate_views(
    probabilities: Float[Tensor, "*b views classes"],
    weights: Float[Tensor, " views"] | None = None,
    *,
    method: ViewsAggregation = "mean",
) -> Float[Tensor, "*b classes"]:
    """Aggregate class probabilities over the views (clips and crops) of each video.

    Args:
        probabilities: class probabilities of each view; leading axes are kept.
        weights: weight of each view in the mean, for example its duration in seconds; None for equal weights.
        method: "mean"; or "max", which takes the highest probability of each class, and ignores the weights.
    """
    if method == "max":
        return probabilities.amax(-2)
    if weights is None:
        return probabilities.mean(-2)
    return torch.einsum("...vc,v->...c", probabilities, (weights / weights.sum()).to(probabilities))
