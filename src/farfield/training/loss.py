"""The training loss: cross entropy, which mixes two labels for clips mixed by MixUp or CutMix."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


class ClipBatch(Protocol):
    """A batch of clips, with the attributes that training uses."""

    clips: Float[Tensor, "b*v 3 t h w"]
    labels: Int[Tensor, " b"]
    draw: Any
    """Random draws of the augmentation; None without augmentation.

    If clips were mixed, `draw.mix` has `partner` (b,), the batch index of the clip that each clip was mixed with, and
    `share` (b,), the weight of each clip's own label. Otherwise `draw.mix` is None.
    """


def mixed_cross_entropy(logits: Float[Tensor, "b classes"], batch: ClipBatch, label_smoothing: float) -> Tensor:
    """Compute the mean cross entropy. For clips mixed by MixUp or CutMix, both labels count, weighted by share."""
    mix = None if batch.draw is None else batch.draw.mix
    own = F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, reduction="none")
    if mix is None:
        return own.mean()
    partners = batch.labels[mix.partner]
    other = F.cross_entropy(logits, partners, label_smoothing=label_smoothing, reduction="none")
    return torch.lerp(other, own, mix.share).mean()
