"""Rank combinations of classes, one class per head, such as actions that consist of a verb and a noun."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def rank_jointly(
    heads: Sequence[Float[Tensor, "n _"]], top_k: int
) -> tuple[Int[Tensor, "n k heads"], Float[Tensor, "n k"]]:
    """Return the most probable combinations of classes (one per head), best first, and their probabilities.

    The probability of a combination is the product of the probabilities of its classes (Damen et al., "Rescaling
    Egocentric Vision", IJCV 2022). Each of the best k combinations consists of classes that are among the best k of
    their head, so only these classes are combined.

    Args:
        heads: class probabilities of each head, for n videos.
        top_k: number k of combinations to return for each video; fewer if fewer exist.

    Returns:
        Combinations, as the index of the class of each head, and the probability of each combination.
    """
    # sort, not topk, which orders equal ones at random: of equal classes, the first is the best one everywhere
    ordered = [each.sort(dim=1, descending=True, stable=True) for each in heads]
    best = [(each.values[:, :top_k], each.indices[:, :top_k]) for each in ordered]
    n = len(heads[0])
    scores = heads[0].new_ones(n, 1)
    places = torch.zeros(n, 1, 0, dtype=torch.int64, device=heads[0].device)
    for values, indices in best:
        scores = (scores[:, :, None] * values[:, None]).flatten(1)
        combined = [places[:, :, None].expand(-1, -1, indices.shape[1], -1), indices[:, None, :, None]]
        shape = combined[0].shape[:3]
        places = torch.cat([combined[0], combined[1].expand(*shape, 1)], dim=3).flatten(1, 2)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    k = min(top_k, scores.shape[1])
    return places.gather(1, order[:, :k, None].expand(-1, -1, places.shape[2])), scores[:, :k]


def joint_hits(
    heads: Sequence[Float[Tensor, "n _"]], targets: Int[Tensor, "n heads"], top_k: int
) -> Bool[Tensor, "n k"]:
    """Return whether each of a video's `top_k` most probable combinations has the true class of every head.

    Args:
        heads: class probabilities of each head.
        targets: index of the true class of each head, for each video.
        top_k: number of combinations, see `rank_jointly`.
    """
    return (rank_jointly(heads, top_k)[0] == targets[:, None]).all(2)
