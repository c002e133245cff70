"""What a test's views are worth: accuracy against how many of them are averaged, from the scores of one test."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.evaluation.metrics import Estimate, wilson


@dataclass(frozen=True)
class AtViews:
    """Top-1 when so many views of each video are averaged, drawn at random from those that there are."""

    views: int
    top1: Estimate


def accuracy_by_views(
    view_probabilities: Float[Tensor, "n views classes"], labels: Int[Tensor, " n"], *, draws: int = 20
) -> list[AtViews]:
    """Top-1 against the number of views, 1 to all: the mean over `draws` orders in which the views may come.

    The interval is that of the number of videos; the draws only take chance out of which views come first.
    """
    count = view_probabilities.shape[1]
    hits = torch.zeros(count, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        order = torch.randperm(count, generator=generator)
        total = torch.zeros_like(view_probabilities[:, 0], dtype=torch.float32)
        for place, view in enumerate(order.tolist()):
            total += view_probabilities[:, view].float()
            hits[place] += int((total.argmax(1) == labels).sum())
    return [AtViews(place + 1, wilson(int(hits[place]) / draws, len(labels))) for place in range(count)]
