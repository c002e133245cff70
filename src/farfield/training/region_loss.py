"""Auxiliary loss on the object regions of `ObjectContext` blocks (OCRNet), adapted to clips.

In segmentation (Yuan et al., ECCV 2020), a ground-truth map supervises the region logits at each position. A clip has
no such map. Therefore the loss applies only to blocks with one region per class. Their region logits are averaged over
all positions, and the loss is the cross entropy between the average and the clip's label. For `multilabel` and
`multi_head` tasks, the loss is the binary cross entropy with the clip's labels. The averaging is not in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.layers import ObjectContext
from farfield.models.network import ActionNet
from farfield.training.loss import ClipBatch, classification_loss
from farfield.training.multilabel_loss import multilabel_loss


def supervised_blocks(network: ActionNet) -> list[ObjectContext]:
    """List the `ObjectContext` blocks with one region per class."""
    blocks = [block for block in network.modules() if isinstance(block, ObjectContext)]
    return [block for block in blocks if block.regions.out_channels == len(network.labels)]


def supervises_regions(network: ActionNet) -> bool:
    """Return whether a network has blocks that the region loss supervises."""
    return bool(supervised_blocks(network))


@contextmanager
def region_logits(network: ActionNet) -> Iterator[list[Float[Tensor, "b classes t h w"]]]:
    """Yield a list to which forward passes within the `with` block append the region logits.

    Each forward pass appends one entry per block that the region loss supervises, in the order in which the blocks run.
    """
    logits: list[Tensor] = []
    hooks = [
        block.regions.register_forward_hook(lambda module, inputs, output: logits.append(output))
        for block in supervised_blocks(network)
    ]
    try:
        yield logits
    finally:
        for hook in hooks:
            hook.remove()


def region_loss(
    logits: Sequence[Float[Tensor, "b classes t h w"]],
    batch: ClipBatch,
    clip_weights: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the cross entropy between the targets and each block's logits, which are averaged over positions first.

    The result is the mean over clips and blocks. For `multilabel` and `multi_head` tasks, where each class has a target
    from 0 to 1, the loss is the binary cross entropy. Clips mixed by MixUp or CutMix have mixed targets, as in the loss
    of the network's output.

    Args:
        logits: region logits of each block.
        batch: clips with their labels and, if they were mixed, their partners and shares.
        clip_weights: factor for each clip's loss before the average, see `labelled_part`; None for factors of 1.
    """
    loss = classification_loss if batch.labels.ndim == 1 else multilabel_loss
    return torch.stack([loss(each.mean((2, 3, 4)), batch, clip_weights=clip_weights) for each in logits]).mean()
