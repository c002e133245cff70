"""All randomness of the data: a function of (seed, epoch, sample index) and of what it is drawn for.

Never of global random state, of time, or of which worker draws, so that any number of workers, and a resumed run, see
the same clips.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Draws for different purposes are independent. The numbers are part of the result: never reuse one."""

    ORDER = 1
    CLIP = 2
    REPLACEMENT = 3
    SYNTHESIS = 4
    AUGMENTATION = 5
    MIX = 6


def generator(purpose: Purpose, seed: int, *where: int) -> np.random.Generator:
    """Returns the generator for one purpose and place, as `generator(Purpose.CLIP, seed, epoch, index)`."""
    return np.random.default_rng([int(purpose), seed, *where])
