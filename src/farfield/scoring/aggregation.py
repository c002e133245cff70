"""Aggregate the scores of a video's views."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def split_views(logits: Float[Tensor, "bv classes"], videos: int) -> Float[Tensor, "b views classes"]:
    """Class probabilities of each view: softmax(logits). A video's are the mean over its views.

    Args:
        logits: one row per view, the views of a video next to each other.
        videos: b.
    """
    return logits.float().softmax(-1).unflatten(0, (videos, -1))


def average_views(logits: Float[Tensor, "bv classes"], videos: int) -> Float[Tensor, "b classes"]:
    """Class probabilities of videos: the mean over each video's views of softmax(logits)."""
    return split_views(logits, videos).mean(1)
