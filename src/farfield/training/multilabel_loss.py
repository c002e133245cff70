"""The training loss of a multilabel task: binary cross entropy or focal loss of each class, with weighted positives."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farfield.training.loss import ClipBatch, mean_over_clips, mixed_targets


def multilabel_loss(
    logits: Float[Tensor, "b classes"],
    batch: ClipBatch,
    *,
    label_smoothing: float = 0.0,
    pos_weight: Float[Tensor, " classes"] | None = None,
    focal_gamma: float = 0.0,
    clip_weights: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the binary cross entropy, or with `focal_gamma` the focal loss, averaged over clips and classes.

    Clips mixed by MixUp or CutMix, and clips of untrimmed videos, have soft targets between 0 and 1. With weights of 1
    and gamma 0, the loss is smallest if each probability equals its target.

    The loss of a class with target t and probability p is

        -(1 - p_t)^gamma (w t log p + (1 - t) log (1 - p))

    where p_t = p t + (1 - p) (1 - t). The weight w is the class's `pos_weight`.

    Sources: torch's `binary_cross_entropy_with_logits`, and the focal loss in the form of torchvision's
    `sigmoid_focal_loss` (Lin et al., ICCV 2017), which also takes soft targets.

    Args:
        logits: output of the network.
        batch: clips with their target for each class and, if they were mixed, their partners and shares.
        label_smoothing: how far targets move towards 0.5, as a fraction; 0.1 turns 0 and 1 into 0.05 and 0.95.
        pos_weight: weight w of each class's positives; None for weights of 1.
        focal_gamma: gamma; 0 for the cross entropy.
        clip_weights: factor for each clip's loss before the average, see `labelled_part`; None for factors of 1.

    Returns:
        float32, or float64 for float64 logits.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = mixed_targets(batch).to(logits.dtype)
    targets = targets + label_smoothing * (0.5 - targets)
    losses = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight, reduction="none")
    if focal_gamma:
        p = logits.sigmoid()
        # The gradient of 0^gamma is infinite for a gamma below 1.
        other = (p + targets - 2 * p * targets).clamp_min(torch.finfo(logits.dtype).tiny)  # 1 - p_t
        losses = losses * other**focal_gamma
    return mean_over_clips(losses, clip_weights)
