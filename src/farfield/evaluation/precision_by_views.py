"""Mean average precision as a function of the number of aggregated views, computed from the scores of one test run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from farfield.clip_spec import ViewsAggregation
from farfield.evaluation.class_metrics import mean_average_precision
from farfield.scoring.aggregation import aggregate_views

_MAX_CELLS = 50_000_000
"""Maximum of videos x classes x views x orders. Larger tests use fewer orders, to take about 20 seconds at most."""


@dataclass(frozen=True)
class PrecisionAtViews:
    """Mean average precision (mAP) when only `views` randomly drawn views of each video are aggregated."""

    views: int
    mean_average_precision: float


def precision_by_views(
    view_probabilities: Float[Tensor, "n views classes"],
    targets: Bool[Tensor, "n classes"],
    *,
    method: ViewsAggregation = "mean",
    draws: int = 20,
) -> list[PrecisionAtViews]:
    """Measure the mAP for every number of views, from 1 to all, averaged over random orders of the views.

    For each number k, the first k views of each order are aggregated.

    Args:
        view_probabilities: class probabilities of each view.
        targets: True where the video has the class.
        method: how views are aggregated: "mean" or "max" of the probabilities.
        draws: maximum number of random orders. To save time, fewer are used if the test is large.
    """
    count = view_probabilities.shape[1]
    draws = max(1, min(draws, _MAX_CELLS // max(view_probabilities.numel(), 1)))
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(count, dtype=torch.float64)
    for _ in range(draws):
        order = torch.randperm(count, generator=generator)
        for place in range(count - 1):
            chosen = view_probabilities[:, order[: place + 1]].float()
            total[place] += mean_average_precision(aggregate_views(chosen, method=method), targets)
    total /= draws
    total[-1] = mean_average_precision(aggregate_views(view_probabilities.float(), method=method), targets)
    return [PrecisionAtViews(place + 1, value) for place, value in enumerate(total.tolist())]
