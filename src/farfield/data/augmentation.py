"""Augmentation settings (crop, flip, colour jitter, RandAugment, erasing, MixUp, CutMix) and their random draws.

Workers crop the clips, and draw the random numbers that all other augmentations need. `transforms` applies these other
augmentations on the device. Workers thus send only uint8 frames and a `Draw`, which takes a few bytes per clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from farfield.errors import FarfieldError


class Mix(NamedTuple):
    """Random numbers of MixUp or CutMix, which mix each clip with a clip of the same batch, called its partner.

    Partners are drawn at random, so a clip may be its own partner and then stays unchanged.

    The target of the mixed clip is `share` x the clip's target + (1 - `share`) x the partner's target.
    """

    partner: Int[Tensor, " b"]
    """Index in the batch of each clip's partner."""
    share: Float[Tensor, " b"]
    """Weight of each clip's own target, from 0.5 to 1."""
    box: Int[Tensor, "b 4"]
    """Top, left, height, width in pixels of the box that CutMix takes from the partner; zeros for MixUp."""


class Draw(NamedTuple):
    """Random numbers of a batch's augmentations. A field is None if its augmentation is off."""

    flip: Bool[Tensor, " b"] | None = None
    """Whether to mirror each clip."""
    colour: Float[Tensor, "b 3"] | None = None
    """Factors of each clip's brightness, contrast and saturation."""
    rand_augment: Int[Tensor, " b"] | None = None
    """Seed of each clip's RandAugment operations."""
    erase: Int[Tensor, "b 4"] | None = None
    """Top, left, height, width in pixels of the box that is erased from every frame; zeros for none."""
    mix: Mix | None = None


@dataclass(frozen=True)
class Augmentation:
    """Settings of the random crops and other augmentations of training clips.

    Args:
        crop_scale: smallest and largest fraction of the frame's area for random resized crops; ignored if short_side_px
            is given.
        short_side_px: smallest and largest length of a frame's short side in pixels, for crops as in Wang et al., CVPR
            2018, who use 256 and 320. The short side is resized to a random length between the two. Then a square of
            the network's size is cut out. null for random resized crops, which vary more.
        flip: mirror each clip horizontally with probability 1/2.
        keep_direction: classes whose clips are never mirrored, such as "turning left".
        colour: largest relative change of brightness, contrast and saturation by colour jitter; 0.4 draws each factor
            from [0.6, 1.4].
        rand_augment: number of RandAugment operations on each clip (Cubuk et al., NeurIPS 2020; torchvision's
            implementation); 0 for none. All frames of a clip get the same operations.
        rand_augment_magnitude: magnitude of the operations, 0 to 30.
        erase: probability that a random box is erased from a clip, the same box from every frame (Zhong et al., AAAI
            2020).
        mixup: parameter alpha of the beta distribution from which MixUp draws the blending weight; 0 turns MixUp off
            (Zhang et al., ICLR 2018).
        cutmix: parameter alpha of the beta distribution from which CutMix draws a number x for each clip; 0 turns
            CutMix off (Yun et al., ICCV 2019). A box from a random clip of the batch replaces the fraction x or 1 - x
            of the frame's area, whichever is smaller. If MixUp and CutMix are both on, each batch uses one of the two,
            chosen at random with equal probability.
    """

    crop_scale: tuple[float, float] = (0.25, 1.0)
    short_side_px: tuple[int, int] | None = None
    flip: bool = True
    keep_direction: tuple[str, ...] = ()
    colour: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: int = 9
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise FarfieldError(f"augmentation.crop_scale is {self.crop_scale}; it needs 0 < smallest <= largest <= 1.")
        if self.short_side_px is not None and not 0 < self.short_side_px[0] <= self.short_side_px[1]:
            raise FarfieldError(
                f"augmentation.short_side_px is {self.short_side_px}; it needs 0 < smallest <= largest, or null."
            )
        if not 0 <= self.colour < 1:
            raise FarfieldError(f"augmentation.colour is {self.colour}; it must be at least 0 and below 1.")
        if self.rand_augment < 0 or not 0 <= self.rand_augment_magnitude <= 30:
            raise FarfieldError(
                f"augmentation.rand_augment is {self.rand_augment} and augmentation.rand_augment_magnitude is "
                f"{self.rand_augment_magnitude}; rand_augment must be at least 0, and rand_augment_magnitude must "
                "be 0 to 30."
            )
        if not 0 <= self.erase <= 1:
            raise FarfieldError(f"augmentation.erase is {self.erase}; it must be a probability, from 0 to 1.")
        if min(self.mixup, self.cutmix) < 0:
            raise FarfieldError(
                f"augmentation.mixup is {self.mixup} and augmentation.cutmix is {self.cutmix}; both must be at least 0."
            )

    def draw(
        self,
        generators: Sequence[np.random.Generator],
        batch_generator: np.random.Generator,
        keep: Sequence[bool],
        side_px: int,
    ) -> Draw:
        """Draw the random numbers for a batch.

        Args:
            generators: random generator for each clip.
            batch_generator: random generator for MixUp and CutMix.
            keep: for each clip, True if it must not be mirrored.
            side_px: height and width of the clips in pixels.
        """
        flip = [bool(rng.random() < 0.5) and not kept for rng, kept in zip(generators, keep, strict=True)]
        colour = [rng.uniform(1 - self.colour, 1 + self.colour, 3) for rng in generators]
        seeds = [int(rng.integers(2**63 - 1)) for rng in generators]
        erased = [_box_to_erase(side_px, rng) if rng.random() < self.erase else (0, 0, 0, 0) for rng in generators]
        return Draw(
            torch.tensor(flip) if self.flip else None,
            torch.tensor(np.array(colour), dtype=torch.float32) if self.colour else None,
            torch.tensor(seeds) if self.rand_augment else None,
            torch.tensor(erased) if self.erase else None,
            self._draw_mix(len(generators), side_px, batch_generator) if (self.mixup or self.cutmix) else None,
        )

    def _draw_mix(self, count: int, side_px: int, rng: np.random.Generator) -> Mix:
        cut = bool(self.cutmix) and (not self.mixup or rng.random() < 0.5)
        alpha = self.cutmix if cut else self.mixup
        share = rng.beta(alpha, alpha, size=count)
        share = np.maximum(share, 1 - share)  # at least a half, since mixing a into b equals mixing b into a
        boxes = np.zeros((count, 4), dtype=np.int64)
        if cut:
            sides = np.floor(side_px * np.sqrt(1 - share)).astype(np.int64)
            boxes[:, 0], boxes[:, 1] = rng.integers(side_px - sides + 1), rng.integers(side_px - sides + 1)
            boxes[:, 2] = boxes[:, 3] = sides
            share = 1 - (sides / side_px) ** 2  # from the box after rounding
        partner = torch.from_numpy(rng.permutation(count))
        return Mix(partner, torch.from_numpy(share).float(), torch.from_numpy(boxes))


def _box_to_erase(side_px: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a box of 1/50 to 1/3 of the area, with an aspect ratio of 0.3 to 3.3.

    Returns:
        Top, left, height and width of the box in pixels.
    """
    area = side_px**2 * rng.uniform(0.02, 1 / 3)
    ratio = float(np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3))))
    height, width = (min(max(round(float(np.sqrt(v))), 1), side_px) for v in (area * ratio, area / ratio))
    return int(rng.integers(side_px - height + 1)), int(rng.integers(side_px - width + 1)), height, width
