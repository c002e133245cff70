"""Random generators of the data: a function of (seed, epoch, sample index) and purpose.

They depend neither on global random state nor on time or worker, so that any number of workers, and a resumed run, get
the same clips.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What is drawn; draws for different purposes are independent. The numbers are seeds: never change one."""

    ORDER = 1
    CLIP = 2
    REPLACEMENT = 3
    SYNTHESIS = 4
    AUGMENTATION = 5
    MIX = 6


def generator(purpose: Purpose, seed: int, *position: int) -> np.random.Generator:
    """Return the generator for a purpose and position, as `generator(Purpose.CLIP, seed, epoch, index)`."""
    return np.random.default_rng([int(purpose), seed, *position])
