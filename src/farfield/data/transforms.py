"""Transforms of a uint8 batch to network input on the device: flip, RandAugment, colour, normalise, erase, mix."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation, Draw, Mix

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as torchvision's rgb_to_grayscale


def network_input(
    clips: UInt8[Tensor, "b v t h w c"],
    spec: ClipSpec,
    *,
    draw: Draw | None = None,
    augmentation: Augmentation | None = None,
) -> Float[Tensor, "b*v c t h w"]:
    """Return the network's input: apply the drawn augmentations, normalise, and merge the views into the batch axis.

    Args:
        clips: RGB frames.
        spec: mean and standard deviation for the normalisation.
        draw: random numbers of the augmentations; None for no augmentation.
        augmentation: settings with which `draw` was drawn, needed for RandAugment; None for the defaults.

    Returns:
        float32 clips in channels_last_3d memory format. 3D convolutions are faster in this format, and decoded frames
        need no conversion to it.
    """
    draw = draw or Draw()
    if draw.flip is not None:
        clips = torch.where(_per_clip(draw.flip), clips.flip(4), clips)
    if draw.rand_augment is not None:
        clips = rand_augment(clips, draw.rand_augment, augmentation or Augmentation())
    x = clips.float() / 255
    if draw.colour is not None:
        x = change_colour(x, draw.colour)
    mean, std = x.new_tensor(spec.mean), x.new_tensor(spec.std)
    x = (x - mean) / std
    if draw.erase is not None:
        x = x.masked_fill(box_mask(draw.erase, *x.shape[3:5]), 0.0)  # the mean colour
    if draw.mix is not None:
        x = mix_clips(x, draw.mix)
    return x.flatten(0, 1).permute(0, 4, 1, 2, 3)


def scaled_draw(draw: Draw, factor: float) -> Draw:
    """Multiply the erasing and CutMix boxes in `draw` by `factor`, to apply them to clips of another image size."""

    def scaled(boxes: Int[Tensor, "b 4"]) -> Int[Tensor, "b 4"]:
        top, left, height, width = boxes.unbind(1)
        edges = torch.stack([top, left, top + height, left + width], 1)
        top, left, bottom, right = (edges * factor).round().to(boxes.dtype).unbind(1)
        return torch.stack([top, left, bottom - top, right - left], 1)

    erase, mix = draw.erase, draw.mix
    return draw._replace(
        erase=None if erase is None else scaled(erase), mix=None if mix is None else mix._replace(box=scaled(mix.box))
    )


def rand_augment(
    clips: UInt8[Tensor, "b v t h w c"], seeds: Int[Tensor, " b"], augmentation: Augmentation
) -> UInt8[Tensor, "b v t h w c"]:
    """Apply torchvision's RandAugment, with the same operations for all frames of a clip, chosen by the clip's seed."""
    from torchvision.transforms import v2  # imported late: slow, and only training needs it

    transform = v2.RandAugment(augmentation.rand_augment, augmentation.rand_augment_magnitude, fill=128)
    changed = torch.empty_like(clips)
    # RandAugment uses the CPU's default generator, as dropout does.
    # torch.manual_seed would also seed the GPU's generator.
    cpu_generator = torch.default_generator
    before = cpu_generator.get_state()
    for i, seed in enumerate(seeds.tolist()):
        cpu_generator.manual_seed(seed)
        frames = clips[i].flatten(0, 1).permute(0, 3, 1, 2)
        changed[i] = transform(frames).permute(0, 2, 3, 1).unflatten(0, clips.shape[1:3])
    cpu_generator.set_state(before)
    return changed


def mix_clips(x: Float[Tensor, "b v t h w c"], mix: Mix) -> Float[Tensor, "b v t h w c"]:
    """Apply CutMix to clips whose box in `mix` is not empty, and MixUp to all others."""
    others = x[mix.partner]
    is_cut = _per_clip(mix.box[:, 2] > 0)
    blended = torch.lerp(others, x, _per_clip(mix.share))
    return torch.where(is_cut, torch.where(box_mask(mix.box, *x.shape[3:5]), others, x), blended)


def box_mask(boxes: Int[Tensor, "b 4"], height: int, width: int) -> Tensor:
    """Return a mask of the pixels in each clip's box (top, left, height, width): bool, (b 1 1 h w 1)."""
    top, left, box_height, box_width = (_per_clip(boxes[:, i]) for i in range(4))
    rows = torch.arange(height, device=boxes.device)[:, None, None]
    columns = torch.arange(width, device=boxes.device)[:, None]
    return (rows >= top) & (rows < top + box_height) & (columns >= left) & (columns < left + box_width)


def change_colour(x: Float[Tensor, "b v t h w c"], factors: Float[Tensor, "b 3"]) -> Float[Tensor, "b v t h w c"]:
    """Multiply each clip's brightness, contrast and saturation by `factors`, as torchvision's `adjust_*` do.

    The three are changed in this order, which is also the order of the columns of `factors`. Contrast blends with
    the mean grey value of the whole clip, so that frames do not flicker.
    """
    brightness, contrast, saturation = (_per_clip(factors[:, i]) for i in range(3))
    x = (x * brightness).clamp(0, 1)
    grey = _grey(x).mean((1, 2, 3, 4, 5), keepdim=True)
    x = (grey + (x - grey) * contrast).clamp(0, 1)
    grey = _grey(x)
    return (grey + (x - grey) * saturation).clamp(0, 1)


def _per_clip(values: Tensor) -> Tensor:
    """Reshape one value per clip, to broadcast with (b v t h w c)."""
    return values[:, None, None, None, None, None]


def _grey(x: Float[Tensor, "b v t h w c"]) -> Float[Tensor, "b v t h w 1"]:
    return (x * x.new_tensor(_LUMA)).sum(-1, keepdim=True)
