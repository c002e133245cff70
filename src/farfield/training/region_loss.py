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
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from farfield.layers import ObjectContext
from farfield.models.network import ActionNet


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
    labels: Int[Tensor, " b"] | Float[Tensor, "b classes"],
    is_labelled: Bool[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the cross entropy between the labels and each block's logits, which are averaged over positions first.

    The result is the mean over clips and blocks. For `multilabel` and `multi_head` tasks, where each class has a label
    from 0 to 1, the loss is the binary cross entropy. Unlabelled clips (False in `is_labelled`) enter the mean with a
    loss of 0. If `is_labelled` is None, all clips are labelled.
    """
    entropy = F.cross_entropy if labels.ndim == 1 else F.binary_cross_entropy_with_logits
    if is_labelled is None:
        return torch.stack([entropy(each.mean((2, 3, 4)), labels) for each in logits]).mean()
    losses = torch.stack([entropy(each.mean((2, 3, 4)), labels, reduction="none") for each in logits])
    return (losses.reshape(*losses.shape[:2], -1).mean(2) * is_labelled).mean()
