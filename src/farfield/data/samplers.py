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
    scale: float = 1.0
    """Height and width of the clip, relative to the network's own; the same for all of a batch."""


SHORT_CYCLE = ((4, 0.5), (2, 0.5**0.5), (1, 1.0))
"""Batches take turns: so many times the clips, of so much smaller a side, the same number of pixels (Wu et al., "A
Multigrid Method for Efficiently Training Video Models", CVPR 2020, section 3.2)."""


class EpochBatchSampler(Sampler[list[SampleKey]]):
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
        short_cycle: batches take turns as `SHORT_CYCLE` says, and `batch_size` is that of the largest clips.

    Raises:
        FarfieldError: for fewer samples than processes, or than a short cycle takes.
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
        short_cycle: bool = False,
    ) -> None:
        if num_samples < world_size:
            raise FarfieldError(
                f"{num_samples} videos are too few for {world_size} processes: each needs at least one."
            )
        wanted = batch_size * sum(times for times, _ in SHORT_CYCLE) * world_size
        if short_cycle and num_samples < wanted:
            raise FarfieldError(
                f"{num_samples} videos are too few for data.short_cycle: a cycle takes {wanted}. Lower data.batch_size."
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.position = position
        self.rank = rank
        self.world_size = world_size
        self.classes = classes
        self.cycle = SHORT_CYCLE if short_cycle else ((1, 1.0),)

    def __len__(self) -> int:
        """Batches in a whole epoch, of each process; one, if need be a small one, for a very small manifest."""
        share = self.num_samples // self.world_size
        rounds, left = divmod(share, self.batch_size * sum(times for times, _ in self.cycle))
        ends = np.cumsum([times * self.batch_size for times, _ in self.cycle])
        return max(1, rounds * len(self.cycle) + int((ends <= left).sum()))

    def _place(self, batch: int) -> tuple[slice, float]:
        """Which of the process's samples are in a batch, and the scale of its clips."""
        rounds, turn = divmod(batch, len(self.cycle))
        times = [times for times, _ in self.cycle]
        start = self.batch_size * (rounds * sum(times) + sum(times[:turn]))
        return slice(start, start + self.batch_size * times[turn]), self.cycle[turn][1]

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
            here, scale = self._place(batch)
            yield [
                SampleKey(epoch, row, turn, scale)
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
