"""The training loss of a `multi_head` task: the mean cross entropy (or focal loss) of the heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.training.loss import ClipBatch, mean_over_clips, mixed_targets


def multi_head_loss(
    log_probabilities: Float[Tensor, "b classes"],
    batch: ClipBatch,
    head_sizes: Sequence[int],
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    clip_weights: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the cross entropy, or with `focal_gamma` the focal loss, averaged over clips and heads.

    With one head, no `focal_gamma` and no `clip_weights`, this is torch's `cross_entropy`.

    Args:
        log_probabilities: output of the network.
        batch: clips with their targets and, if the clips were mixed, their partners and shares. In each head, the
            target is 1 for the clip's class and 0 for the other classes.
        head_sizes: number of classes of each head.
        label_smoothing: share of each head's target that is spread over the head's classes.
        focal_gamma: gamma; 0 for the cross entropy.
        clip_weights: factor for each clip's loss before the average, see `labelled_part`; None for factors of 1.

    Returns:
        float32, or float64 for float64 input.
    """
    log_p = log_probabilities.to(torch.promote_types(log_probabilities.dtype, torch.float32))
    uniform = torch.cat([log_p.new_full((size,), 1 / size) for size in head_sizes])
    targets = torch.lerp(mixed_targets(batch).to(log_p.dtype), uniform, label_smoothing)
    losses = -targets * log_p
    if focal_gamma:
        # The gradient of 0^gamma is infinite for a gamma below 1.
        losses = losses * (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny) ** focal_gamma
    return mean_over_clips(losses.sum(1), clip_weights) / len(head_sizes)
