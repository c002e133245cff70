"""A network in the form in which it infers fastest with plain PyTorch."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from farfield.layers import convolve_frames, fold_batch_norm, replace_modules
from farfield.layers.dense_conv import DenseConv3d, has_matrix_units, is_stem
from farfield.models.network import ActionNet


def optimize_for_inference(network: ActionNet, dtype: torch.dtype = torch.float32) -> ActionNet:
    """A copy in evaluation mode whose layers are laid out for speed, on the network's device.

    Batch norms are folded into convolutions, convolutions of single frames are 2D ones, weights lie in
    channels_last_3d memory, and for bfloat16 on CPUs with matrix units the first convolution is a dense one. Scores
    agree to the rounding of `dtype`, and clips of the same memory format are what it takes fastest: `network_input`
    gives such. It learns no more and is no checkpoint; labels, clip and config are the network's.

    Args:
        network: in any mode.
        dtype: of the copy's weights and of the clips that it takes.
    """
    if network.is_folded:
        return network
    like = next(network.parameters())
    spec = network.clip
    example = torch.zeros(1, 3, spec.num_frames, spec.crop_px, spec.crop_px, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        folded = fold_batch_norm(network, example)
        if like.device.type == "cpu" and dtype == torch.bfloat16 and has_matrix_units():
            replace_modules(folded, _dense)
        fast = cast(ActionNet, convolve_frames(folded)).requires_grad_(False)
    fast.is_folded = True
    return fast.to(dtype).to(memory_format=torch.channels_last_3d)


def _dense(module: nn.Module) -> nn.Module | None:
    return DenseConv3d(module) if is_stem(module) else None
