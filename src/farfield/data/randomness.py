"""Random generators for data loading, each determined by a purpose, the seed, the epoch and the sample index.

The generators do not depend on global random state, time or worker. Any number of workers, and a resumed run, therefore
get the same clips.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Purpose of a random draw; draws for different purposes are independent.

    The values are part of the generators' seeds: never change a value.
    """

    ORDER = 1
    CLIP = 2
    REPLACEMENT = 3
    SYNTHESIS = 4
    AUGMENTATION = 5
    MIX = 6


def generator(purpose: Purpose, seed: int, *position: int) -> np.random.Generator:
    """Return the random generator for a purpose, seed and position, e.g. `generator(Purpose.CLIP, seed, epoch, row)`.

    `position` consists of integers that identify the draw, such as epoch and row.
    """
    return np.random.default_rng([int(purpose), seed, *position])
