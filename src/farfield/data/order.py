"""The order of training samples: a function of (seed, epoch), that can be entered in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from torch.utils.data import Sampler

from farfield.data.randomness import Purpose, generator
from farfield.errors import FarfieldError


class SampleKey(NamedTuple):
    """One sample of one epoch. It goes to the worker, which so needs no state of its own."""

    epoch: int
    row: int
    turn: int = 0
    """How often the row has come before in the epoch."""


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches of keys in a random order; what does not fill a batch waits for another epoch.

    Args:
        num_samples: rows of the manifest.
        batch_size: videos in a batch of one process.
        seed: of the run.
        position: asked when an epoch begins: (epoch, number of its batches already trained on). Asking the trainer,
            instead of counting what was yielded, keeps batches that workers had prefetched when a run was stopped.
        rank: this process's number of `world_size`; the processes see disjoint and equal shares.
        world_size: number of processes that train together.
        classes: each row's class, to draw all classes equally often; None to take each video once an epoch.

    Raises:
        FarfieldError: for fewer samples than processes.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        position: Callable[[], tuple[int, int]],
        rank: int = 0,
        world_size: int = 1,
        classes: Int[np.ndarray, " samples"] | None = None,
    ) -> None:
        if num_samples < world_size:
            raise FarfieldError(
                f"{num_samples} videos are too few for {world_size} processes: each needs at least one."
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.position = position
        self.rank = rank
        self.world_size = world_size
        self.classes = classes

    def __len__(self) -> int:
        """Batches in a whole epoch, of each process; one, if need be a small one, for a very small manifest."""
        return max(1, self.num_samples // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, done = self.position()
        rng = generator(Purpose.ORDER, self.seed, epoch)
        if self.classes is None:
            order, turns = rng.permutation(self.num_samples), np.zeros(self.num_samples, dtype=np.int64)
        else:
            order, turns = balanced(self.classes, rng)
        shared = self.num_samples - self.num_samples % self.world_size
        mine, my_turns = (each[self.rank : shared : self.world_size] for each in (order, turns))
        for batch in range(done, len(self)):
            here = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            yield [
                SampleKey(epoch, row, turn)
                for row, turn in zip(mine[here].tolist(), my_turns[here].tolist(), strict=True)
            ]


def balanced(
    classes: Int[np.ndarray, " samples"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, " samples"], Int[np.ndarray, " samples"]]:
    """As many samples as there are rows, every class equally often to within one.

    A class with fewer videos than that comes again from its first, in another order; one with more leaves some out,
    others in each epoch.

    Returns:
        Rows in random order, and how often each has come before.
    """
    kinds, counts = np.unique(classes, return_counts=True)
    share, rest = divmod(len(classes), len(kinds))
    extra = set(rng.permutation(kinds)[:rest].tolist())
    rows, turns = [], []
    sorted_rows = np.argsort(classes, kind="stable")
    for kind, of_class in zip(kinds.tolist(), np.split(sorted_rows, np.cumsum(counts)[:-1]), strict=True):
        wanted = share + (kind in extra)
        rounds = -(-wanted // len(of_class))
        rows.append(np.concatenate([rng.permutation(of_class) for _ in range(rounds)])[:wanted])
        turns.append(np.repeat(np.arange(rounds), len(of_class))[:wanted])
    shuffled = rng.permutation(len(classes))
    return np.concatenate(rows)[shuffled], np.concatenate(turns)[shuffled]
