"""Samplers of training and evaluation batches.

Training batches are shuffled or class-balanced, and can resume in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from torch.utils.data import Sampler

from farfield.data.randomness import Purpose, generator
from farfield.errors import FarfieldError


class SampleKey(NamedTuple):
    """Key of a training sample. Workers load a sample from its key alone, and keep no state.

    Attributes:
        epoch: number of the epoch.
        row: row of the video in the manifest.
        repeat: number that distinguishes the samples of one row in one epoch: 0, 1, ...
        scale: height and width of the clip, relative to the network's input; equal within a batch.
    """

    epoch: int
    row: int
    repeat: int = 0
    scale: float = 1.0


DrawEpoch = Callable[[np.random.Generator], tuple[Int[np.ndarray, " samples"], Int[np.ndarray, " samples"]]]

SHORT_CYCLE = ((4, 0.5), (2, 0.5**0.5), (1, 1.0))
"""Factors of (batch size, height and width) for consecutive batches, which all have the same number of pixels (Wu et
al., "A Multigrid Method for Efficiently Training Video Models", CVPR 2020, section 3.2)."""


def scaled_side(side_px: int, scale: float) -> int:
    """Return the height and width, in pixels, of clips that are `scale` times as high and wide as `side_px`."""
    return round(side_px * scale)


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Training batches in a random order that depends only on seed and epoch; an incomplete last batch is dropped.

    Args:
        num_samples: number of samples in an epoch; equal to the number of rows of the manifest unless `epoch` is given.
        batch_size: number of samples in a batch of one process.
        seed: seed of the run.
        position: function that is called at the start of each epoch and returns the trainer's (epoch, number of batches
            trained in this epoch). The number is above 0 after a run is resumed in the middle of an epoch. Batches that
            were prefetched but not trained on must not be counted, since a resumed run would then skip them.
        rank: rank of this process; the processes get disjoint, equally large shares of the samples.
        world_size: number of processes that train together.
        classes: class of each row, to draw all classes equally often; None to draw each row once per epoch. Ignored if
            `epoch` is given.
        epoch: function that draws the samples of an epoch. It returns two arrays: the row and the `SampleKey.repeat` of
            each sample. None to draw samples as described for `classes`.
        short_cycle: cycle through the batch sizes and clip sizes in `SHORT_CYCLE`, where larger batches have smaller
            clips. `batch_size` is the number of samples in the batches with the largest clips.

    Raises:
        FarfieldError: if there are fewer samples than processes, or too few samples for one short cycle.
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
        epoch: DrawEpoch | None = None,
        short_cycle: bool = False,
    ) -> None:
        if num_samples < world_size:
            raise FarfieldError(
                f"the number of videos is {num_samples}, but each of {world_size} processes needs at least one video. "
                "Use fewer processes."
            )
        wanted = batch_size * sum(times for times, _ in SHORT_CYCLE) * world_size
        if short_cycle and num_samples < wanted:
            raise FarfieldError(
                f"the number of videos is {num_samples}, but a cycle of data.short_cycle needs {wanted}. "
                "Lower data.batch_size."
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.position = position
        self.rank = rank
        self.world_size = world_size
        self.classes = classes
        self.epoch = epoch
        self.cycle = SHORT_CYCLE if short_cycle else ((1, 1.0),)

    def __len__(self) -> int:
        """Return the number of batches per process in a whole epoch.

        If there are too few samples for a single whole batch, the number is 1: the incomplete batch is not dropped.
        """
        share = self.num_samples // self.world_size
        rounds, left = divmod(share, self.batch_size * sum(times for times, _ in self.cycle))
        ends = np.cumsum([times * self.batch_size for times, _ in self.cycle])
        return max(1, rounds * len(self.cycle) + int((ends <= left).sum()))

    def _batch_slice(self, batch: int) -> tuple[slice, float]:
        """Return the slice that selects a batch from this process's samples, and the batch's `SampleKey.scale`."""
        rounds, phase = divmod(batch, len(self.cycle))
        times = [times for times, _ in self.cycle]
        start = self.batch_size * (rounds * sum(times) + sum(times[:phase]))
        return slice(start, start + self.batch_size * times[phase]), self.cycle[phase][1]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, done = self.position()
        rng = generator(Purpose.ORDER, self.seed, epoch)
        if self.epoch is not None:
            order, repeats = self.epoch(rng)
        elif self.classes is None:
            order, repeats = rng.permutation(self.num_samples), np.zeros(self.num_samples, dtype=np.int64)
        else:
            order, repeats = class_balanced_order(self.classes, rng)
        shared = self.num_samples - self.num_samples % self.world_size
        rows, repeats = (each[self.rank : shared : self.world_size] for each in (order, repeats))
        for batch in range(done, len(self)):
            here, scale = self._batch_slice(batch)
            yield [
                SampleKey(epoch, row, repeat, scale)
                for row, repeat in zip(rows[here].tolist(), repeats[here].tolist(), strict=True)
            ]


def class_balanced_order(
    classes: Int[np.ndarray, " samples"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, " samples"], Int[np.ndarray, " samples"]]:
    """Draw `len(classes)` samples for an epoch, such that the numbers of samples per class differ by at most one.

    If a class has too few rows, its rows are repeated, in a new order each time. If a class has too many rows, a random
    selection of them is used.

    Args:
        classes: class of each row.
        rng: random generator.

    Returns:
        Row of each sample, in random order; and for each sample, the number that distinguishes it from other samples of
        its row: 0, 1, ... (`SampleKey.repeat`).
    """
    present, counts = np.unique(classes, return_counts=True)
    share, rest = divmod(len(classes), len(present))
    extra = set(rng.permutation(present)[:rest].tolist())
    rows, repeats = [], []
    sorted_rows = np.argsort(classes, kind="stable")
    for each, of_class in zip(present.tolist(), np.split(sorted_rows, np.cumsum(counts)[:-1]), strict=True):
        wanted = share + (each in extra)
        rounds = -(-wanted // len(of_class))
        rows.append(np.concatenate([rng.permutation(of_class) for _ in range(rounds)])[:wanted])
        repeats.append(np.repeat(np.arange(rounds), len(of_class))[:wanted])
    shuffled = rng.permutation(len(classes))
    return np.concatenate(rows)[shuffled], np.concatenate(repeats)[shuffled]


class EvaluationBatches(Sampler[list[int]]):
    """Evaluation batches: every row once, divided among the processes; the last batch of a process may be empty.

    All processes have the same number of batches, since distributed networks synchronise at every batch.

    Args:
        count: number of rows of the manifest.
        size: number of videos in a batch of one process.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(self, count: int, size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.count, self.size = count, size
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return -(-self.count // (self.size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        rows = range(self.rank, self.count, self.world_size)
        for batch in range(len(self)):
            yield list(rows[batch * self.size : (batch + 1) * self.size])
