"""Optimise a network for inference with PyTorch."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from farfield.layers import convolve_frames, fold_batch_norm, replace_modules
from farfield.layers.channels_last import to_channels_last_3d
from farfield.layers.dense_conv import DenseConv3d, has_matrix_units, is_stem
from farfield.models.network import ActionNet


def optimize_for_inference(
    network: ActionNet, dtype: torch.dtype = torch.float32, *, in_place: bool = False
) -> ActionNet:
    """Return a copy of a network, optimised for fast inference, in evaluation mode and on the same device.

    Batch norms are folded into convolutions, 3D convolutions with a temporal kernel of 1 run as 2D convolutions, and
    weights are stored as channels_last_3d. In bfloat16 on CPUs with matrix units (AMX), the first convolution becomes a
    `DenseConv3d`. Scores equal those of the original network up to the rounding of `dtype`. Clips in channels_last_3d,
    as `network_input` returns them, are fastest. The copy keeps labels, clip, config and thresholds, but cannot be
    trained or saved as a checkpoint.

    Args:
        network: network in any mode. A network that is already folded is returned as it is, whatever `dtype` is.
        dtype: type of the copy's weights and of its input.
        in_place: change the given network and return it, instead of a copy. This saves time and memory.
    """
    if network.is_folded:
        return network
    like = next(network.parameters())
    spec = network.clip
    example = torch.empty(1, 3, spec.num_frames, spec.crop_px, spec.crop_px, dtype=like.dtype, device="meta")
    with torch.no_grad():
        folded = fold_batch_norm(network, example, in_place=in_place)
        if like.device.type == "cpu" and dtype == torch.bfloat16 and has_matrix_units():
            replace_modules(folded, _dense)
        fast = cast(ActionNet, convolve_frames(folded)).requires_grad_(False)
    fast.is_folded = True
    return to_channels_last_3d(fast.to(dtype))


def _dense(module: nn.Module) -> nn.Module | None:
    return DenseConv3d(module) if is_stem(module) else None
