"""The auxiliary loss on object regions (OCRNet), for clips.

In segmentation the region logits are supervised by the ground-truth map. A clip has one label: with one region a class,
the region logits averaged over all positions classify the clip (Yuan et al., ECCV 2020; the average is ours).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from farfield.layers import ObjectContext
from farfield.models.network import ActionNet


def supervised_blocks(network: ActionNet) -> list[ObjectContext]:
    """The blocks with one region a class."""
    blocks = [block for block in network.modules() if isinstance(block, ObjectContext)]
    return [block for block in blocks if block.regions.out_channels == len(network.labels)]


def supervises_regions(network: ActionNet) -> bool:
    return bool(supervised_blocks(network))


@contextmanager
def region_logits(network: ActionNet) -> Iterator[list[Float[Tensor, "b classes t h w"]]]:
    """Collects, while the network runs, the region logits of its `ObjectContext` blocks with one region a class."""
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


def region_loss(logits: Sequence[Float[Tensor, "b classes t h w"]], labels: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Cross entropy of the logits averaged over positions; the mean over blocks."""
    return torch.stack([F.cross_entropy(each.mean((2, 3, 4)), labels) for each in logits]).mean()
