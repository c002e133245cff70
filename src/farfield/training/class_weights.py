"""Class weights in the loss, computed from the number of training videos per class or set in the config.

A class's weight multiplies the loss of its videos in a single-label task, and the loss of its positives in a multilabel
task.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import FarfieldError, nearest
from farfield.training.loss import LossSettings

log = logging.getLogger("farfield")

LISTED_CLASSES = 20
"""Largest number of classes that `describe_class_weights` lists."""


def compute_class_weights(
    settings: LossSettings, labels: Sequence[str], counts: Sequence[int] | None
) -> Float[Tensor, " classes"] | None:
    """Compute and log the weight of each class, scaled so that the mean weight of the training videos is 1.

    For a class with n training videos, `settings.class_weights` determines the weight before the scaling:
    - "inverse": 1 / n.
    - "effective": (1 - beta) / (1 - beta^n). Beta is `settings.effective_beta`.
    - A dict from class name to weight: the weight in the dict, or 1 for a class that is missing from the dict.

    In all three cases, a class without training videos has the weight 1 after the scaling. That weight has an effect
    only with label smoothing.

    After the scaling, the weights of "inverse" equal scikit-learn's "balanced". "effective" is eq. 4 of Cui et al.,
    "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019. The paper scales the weights differently: to
    a mean of 1 over the classes.

    Args:
        settings: how to weight the classes.
        labels: class names in the network's order.
        counts: number of training videos of each class; may be None if `settings.class_weights` is None.

    Returns:
        Weights in the order of `labels`, float32; None if `settings.class_weights` is None.

    Raises:
        FarfieldError: if a weight is given for a name that is not a class, or if `counts` is needed but None.
    """
    if settings.class_weights is None:
        return None
    if counts is None:
        raise FarfieldError(
            "loss.class_weights is set, but class_counts is not: the weights depend on the number of training "
            "videos of each class. Pass class_counts=data.class_counts, where data is the data module."
        )
    n = torch.tensor(counts, dtype=torch.float64)
    if settings.class_weights == "inverse":
        weights = 1 / n
    elif settings.class_weights == "effective":
        weights = (1 - settings.effective_beta) / (1 - settings.effective_beta**n)
    else:
        weights = _named_weights(settings.class_weights, labels, "class_weights")
    has_videos = n > 0
    mean = (n * weights)[has_videos].sum() / n.sum()
    weights = torch.where(has_videos, weights / mean, 1.0).float()
    log.info("class weights of the loss: %s", describe_class_weights(labels, counts, weights))
    return weights


def compute_pos_weight(
    settings: LossSettings, labels: Sequence[str], counts: Sequence[int] | None, num_videos: int | None
) -> Float[Tensor, " classes"] | None:
    """Compute the weight of each class's positives in a multilabel loss, and log it if `counts` is given.

    `settings.pos_weight` is a number for all classes, a dict from class name to weight, or "balanced". Classes missing
    from the dict have the weight 1. If n_c of N training videos have class c, "balanced" gives the weight
    (N - n_c) / n_c, or 1 if n_c is 0 or N.

    Args:
        settings: how to weight the positives.
        labels: class names in the network's order.
        counts: number of training videos of each class; needed for "balanced".
        num_videos: number of training videos; needed for "balanced".

    Returns:
        Weights in the order of `labels`, float32; None if `settings.pos_weight` is None.

    Raises:
        FarfieldError: if a weight is given for a name that is not a class, or if `counts` or `num_videos` is needed but
            None.
    """
    given = settings.pos_weight
    if given is None:
        return None
    if given == "balanced":
        if counts is None or num_videos is None:
            raise FarfieldError(
                "loss.pos_weight is 'balanced', but class_counts or num_training_videos is not set. Pass "
                "class_counts=data.class_counts and num_training_videos=data.num_training_videos, where data is the "
                "data module."
            )
        n = torch.tensor(counts, dtype=torch.float64)
        weights = torch.where((n > 0) & (n < num_videos), (num_videos - n) / n, 1.0)
    elif isinstance(given, dict):
        weights = _named_weights(given, labels, "pos_weight")
    else:
        weights = torch.full((len(labels),), float(given), dtype=torch.float64)
    if counts is not None:
        shown = describe_class_weights(labels, counts, weights, num_videos=num_videos)
        log.info("weights of positives in the loss: %s", shown)
    return weights.float()


def _named_weights(given: Mapping[str, float], labels: Sequence[str], option: str) -> Float[Tensor, " classes"]:
    for name in given:
        if name not in labels:
            raise FarfieldError(
                f"loss.{option} has a weight for {name!r}, which is not a class. {nearest(name, labels)}"
            )
    return torch.tensor([given.get(label, 1.0) for label in labels], dtype=torch.float64)


def describe_class_weights(
    labels: Sequence[str],
    counts: Sequence[int],
    weights: Float[Tensor, " classes"],
    *,
    num_videos: int | None = None,
) -> str:
    """Format each class's weight and number of videos for the log, classes with the most videos first.

    If there are more than `LISTED_CLASSES` classes, only those with the most and the fewest videos are listed.

    Args:
        labels: class names.
        counts: number of videos of each class.
        weights: weight of each class.
        num_videos: total number of videos, shown after each count; None for the sum of `counts`. Give the number for a
            multilabel task, since the sum counts a video once for each of its classes.
    """
    num_videos = sum(counts) if num_videos is None else num_videos
    order = sorted(range(len(labels)), key=lambda i: -counts[i])
    texts = [f"{labels[i]} {float(weights[i]):.3g} ({counts[i]} of {num_videos} videos)" for i in order]
    left_out = len(texts) - LISTED_CLASSES
    if left_out > 0:
        half = LISTED_CLASSES // 2
        texts = [*texts[:half], f"... {left_out} more classes ...", *texts[-half:]]
    return ", ".join(texts)
