"""Top-1 accuracy as a function of the number of views aggregated, from the scores of one test run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.clip_spec import ViewsAggregation
from farfield.evaluation.group_intervals import widen_by_units
from farfield.evaluation.metrics import Estimate, wilson
from farfield.evaluation.split_resampling import SplitValues


@dataclass(frozen=True)
class AccuracyAtViews:
    """Top-1 accuracy when only `views` randomly drawn views of each video are aggregated."""

    views: int
    top1: Estimate


def accuracy_by_views(
    view_probabilities: Float[Tensor, "n views classes"],
    labels: Int[Tensor, " n"],
    *,
    units: Int[Tensor, " n"] | None = None,
    method: ViewsAggregation = "mean",
    draws: int = 20,
) -> list[AccuracyAtViews]:
    """Measure top-1 accuracy for every number of views, from 1 to all, averaged over random orders of the views.

    With more orders, the accuracy depends less on which views are drawn. The 95% confidence interval does not get
    narrower: it is Wilson's interval for the number of videos, widened for groups of videos, see `group_intervals`.

    Args:
        view_probabilities: class probabilities of each view.
        labels: class of each video.
        units: for each video, the index of its unit, from `sampling_units`; None if each video is a unit.
        method: how views are aggregated: "mean" or "max" of the probabilities.
        draws: number of random orders.
    """
    count, n = view_probabilities.shape[1], len(labels)
    hits = torch.zeros(count, n, dtype=torch.int64)  # in how many of the orders each video is right
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        order = torch.randperm(count, generator=generator)
        total = torch.zeros_like(view_probabilities[:, 0], dtype=torch.float32)
        for place, view in enumerate(order.tolist()):
            scores = view_probabilities[:, view].float()
            total = total.maximum(scores) if method == "max" else total + scores
            hits[place] += total.argmax(1) == labels
    plain = [wilson(int(each.sum()) / draws, n) for each in hits]
    found = widen_by_units(plain, [SplitValues(each.double().numpy() / draws) for each in hits], units)
    return [AccuracyAtViews(place, top1) for place, top1 in enumerate(found, start=1)]
