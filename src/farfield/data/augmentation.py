"""What training varies at random: drawn per sample in the worker, applied to the batch on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from farfield.errors import FarfieldError


@dataclass(frozen=True)
class Augmentation:
    """How much training clips are varied.

    Args:
        crop_scale: smallest and largest fraction of a frame's area that a random crop takes. The paper resizes
            the short side to 256 to 320 pixels and crops 224 of them; random resized crops came later, and vary more.
        flip: mirror half of the clips left to right. Turn it off where left and right tell classes apart.
        colour: largest relative change of brightness, contrast and saturation; 0.4 draws each factor from [0.6, 1.4].
    """

    crop_scale: tuple[float, float] = (0.25, 1.0)
    flip: bool = True
    colour: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise FarfieldError(f"augmentation.crop_scale is {self.crop_scale}; it needs 0 < smallest <= largest <= 1.")
        if not 0 <= self.colour < 1:
            raise FarfieldError(f"augmentation.colour is {self.colour}; it must be at least 0 and below 1.")

    def draw_flip(self, rng: np.random.Generator) -> bool:
        return bool(rng.random() < 0.5) and self.flip

    def draw_colour(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(1 - self.colour, 1 + self.colour, 3)
