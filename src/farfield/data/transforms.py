"""From a uint8 batch to the network's input, on the device that holds it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as torchvision's rgb_to_grayscale


def network_input(
    clips: UInt8[Tensor, "b v t h w c"],
    spec: ClipSpec,
    *,
    flip: Bool[Tensor, " b"] | None = None,
    colour: Float[Tensor, "b 3"] | None = None,
) -> Float[Tensor, "b*v c t h w"]:
    """Mirrors, changes colours and normalises; views join the batch axis.

    Args:
        clips: RGB frames.
        spec: mean and standard deviation to normalise with.
        flip: which clips to mirror left to right; None for none.
        colour: factors of brightness, contrast and saturation per clip; None for no change.

    Returns:
        float32 in channels_last_3d memory, which the frames have to begin with and 3D convolutions prefer.
    """
    if flip is not None:
        clips = torch.where(flip[:, None, None, None, None, None], clips.flip(4), clips)
    x = clips.float() / 255
    if colour is not None:
        x = change_colour(x, colour)
    mean, std = x.new_tensor(spec.mean), x.new_tensor(spec.std)
    return ((x - mean) / std).flatten(0, 1).permute(0, 4, 1, 2, 3)


def change_colour(x: Float[Tensor, "b v t h w c"], factors: Float[Tensor, "b 3"]) -> Float[Tensor, "b v t h w c"]:
    """Brightness, then contrast, then saturation, one factor each per clip, as torchvision's `adjust_*`.

    Contrast blends with the mean grey of the whole clip, so that frames do not flicker against each other.
    """
    brightness, contrast, saturation = (factors[:, i, None, None, None, None, None] for i in range(3))
    x = (x * brightness).clamp(0, 1)
    grey = _grey(x).mean((1, 2, 3, 4, 5), keepdim=True)
    x = (grey + (x - grey) * contrast).clamp(0, 1)
    grey = _grey(x)
    return (grey + (x - grey) * saturation).clamp(0, 1)


def _grey(x: Float[Tensor, "b v t h w c"]) -> Float[Tensor, "b v t h w 1"]:
    return (x * x.new_tensor(_LUMA)).sum(-1, keepdim=True)
