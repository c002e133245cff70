"""Top-1 accuracy as a function of the number of views aggregated, from the scores of one test run."""

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
    """Measure top-1 accuracy for every number of views, from 1 to all, averaged over random orders of the views.

    With more orders, the accuracy depends less on which views are drawn. The 95% confidence interval does not get
    narrower, since it is Wilson's interval for the number of videos.

    Args:
        view_probabilities: class probabilities of each view.
        labels: class of each video.
        method: how views are aggregated: "mean" or "max" of the probabilities.
        draws: number of random orders.
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
