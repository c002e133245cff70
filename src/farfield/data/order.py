"""The order of training samples: a function of (seed, epoch), that can be entered in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch.utils.data import Sampler

from farfield.data.randomness import Purpose, generator


class SampleKey(NamedTuple):
    """One sample of one epoch. It goes to the worker, which so needs no state of its own."""

    epoch: int
    row: int


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches of keys in a random order, each video once an epoch; what does not fill a batch waits for another epoch.

    Args:
        num_samples: rows of the manifest.
        batch_size: samples in a batch of one process.
        seed: of the run.
        position: asked when an epoch begins: (epoch, number of its batches already trained on). Asking the trainer,
            instead of counting what was yielded, keeps batches that workers had prefetched when a run was stopped.
        rank: this process's number of `world_size`; the processes see disjoint and equal shares.
        world_size: number of processes that train together.
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
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.position = position
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Batches in a whole epoch, of each process; one, if need be a small one, for a very small manifest."""
        return max(1, self.num_samples // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, done = self.position()
        order = generator(Purpose.ORDER, self.seed, epoch).permutation(self.num_samples)
        mine = order[self.rank :: self.world_size]
        for batch in range(done, len(self)):
            chosen = mine[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [SampleKey(epoch, int(row)) for row in chosen]
