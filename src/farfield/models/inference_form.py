"""A network in the form in which it infers fastest with plain PyTorch."""

from __future__ import annotations

from typing import cast

import torch

from farfield.layers import fold_batch_norm
from farfield.models.network import ActionNet


def for_inference(network: ActionNet) -> ActionNet:
    """A copy in evaluation mode, batch norms folded into convolutions and weights in channels_last_3d memory.

    On the network's device. Scores agree to rounding, and clips of the same memory format are what it takes fastest:
    `network_input` gives such. It learns no more and is no checkpoint; labels, clip and config are the network's.
    """
    like = next(network.parameters())
    spec = network.clip
    example = torch.zeros(1, 3, spec.num_frames, spec.crop_px, spec.crop_px, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        folded = cast(ActionNet, fold_batch_norm(network, example)).requires_grad_(False)
    return folded.to(memory_format=torch.channels_last_3d)
