"""Accuracy as a function of the number of views averaged, from the scores of one test."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.clip_spec import ViewsAggregation
from farfield.evaluation.metrics import Estimate, wilson


@dataclass(frozen=True)
class AccuracyAtViews:
    """Top-1 accuracy when only `views` randomly drawn views of each video are aggregated."""

    views: int
    top1: Estimate


def accuracy_by_views(
    view_probabilities: Float[Tensor, "n views classes"],
    labels: Int[Tensor, " n"],
    *,
    method: ViewsAggregation = "mean",
    draws: int = 20,
) -> list[AccuracyAtViews]:
    """Measure top-1 for every number of views, from 1 to all, averaged over `draws` random orders of the views.

    The confidence interval accounts for the number of videos only. Averaging over orders reduces the effect of which
    views come first, but does not narrow the interval.
    """
    count = view_probabilities.shape[1]
    hits = torch.zeros(count, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        order = torch.randperm(count, generator=generator)
        total = torch.zeros_like(view_probabilities[:, 0], dtype=torch.float32)
        for place, view in enumerate(order.tolist()):
            scores = view_probabilities[:, view].float()
            total = total.maximum(scores) if method == "max" else total + scores
            hits[place] += int((total.argmax(1) == labels).sum())
    return [AccuracyAtViews(place + 1, wilson(int(hits[place]) / draws, len(labels))) for place in range(count)]
