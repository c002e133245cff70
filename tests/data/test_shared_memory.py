"""Shared buffers of batches: a buffer is not overwritten while a batch in it is in use."""

from __future__ import annotations

import gc
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from farfield.data.batch_loader import batch_loader
from farfield.data.shared_memory import BUFFERS_PER_WORKER, stack_into_buffer

COUNT = 30


class Parts(NamedTuple):
    batch: Tensor


class Numbered(Dataset[Any]):
    """Batch n is full of n; from `larger_from` on it is four times as large."""

    def __init__(self, larger_from: int = COUNT, side: int = 32) -> None:
        self.larger_from, self.side = larger_from, side

    def __getitem__(self, number: int) -> Any:
        side = self.side * (2 if number >= self.larger_from else 1)
        return Parts(stack_into_buffer([torch.full((side, side), number, dtype=torch.uint8)] * 4))


def loader(dataset: Dataset[Any], workers: int = 2) -> DataLoader[Any]:
    return batch_loader(dataset, range(COUNT), workers)  # type: ignore[arg-type]


def number_in(batch: Tensor) -> int:
    (number,) = batch.unique().tolist()
    return int(number)


def test_buffers_are_reused() -> None:
    batches = loader(Numbered(), workers=1)
    for _ in range(2):
        seen = [(batch.data_ptr(), batch.is_shared()) for (batch,) in batches]
        assert len({place for place, _ in seen}) <= 4  # two wait, one is being made, one is in use
        assert not any(new for _, new in seen)  # memory that PyTorch allocates for one batch reports that it is shared


@pytest.mark.slow
def test_small_batches_are_not_overwritten_before_they_arrive() -> None:
    for _ in range(2):
        batches = loader(Numbered(side=2), workers=1)
        for _ in range(5):
            assert [number_in(batch) for (batch,) in batches] == list(range(COUNT))


@pytest.mark.parametrize(
    "keep", [lambda batch: batch, lambda batch: batch[1:, :3].transpose(0, 1)], ids=["all", "view"]
)
def test_a_batch_is_not_overwritten_while_it_or_a_view_exists(keep: Any) -> None:
    held = [keep(batch) for (batch,) in loader(Numbered())]  # more than there are buffers
    assert len(held) > 2 * BUFFERS_PER_WORKER
    assert [number_in(each) for each in held] == list(range(COUNT))


@pytest.mark.slow
def test_buffers_grow_with_the_batches() -> None:
    for epoch in range(2):
        for number, (batch,) in enumerate(loader(Numbered(larger_from=7))):
            assert batch.shape[-1] == (64 if number >= 7 else 32), epoch
            assert number_in(batch) == number


@pytest.mark.slow
def test_an_interrupted_epoch_frees_its_buffers() -> None:
    batches = loader(Numbered(), workers=1)
    for _ in range(2 * BUFFERS_PER_WORKER):
        for number, (batch,) in enumerate(batches):
            assert number_in(batch) == number
            if number == 1:
                break
    del batch
    gc.collect()
    assert not any(batch.is_shared() for (batch,) in batches)  # else no buffer was free


@pytest.mark.slow
def test_batches_outlive_the_loader() -> None:
    batches = loader(Numbered())
    held = [batch for (batch,) in batches]
    del batches
    gc.collect()
    assert [number_in(each) for each in held] == list(range(COUNT))


@pytest.mark.slow
def test_workers_may_be_spawned() -> None:
    batches = loader(Numbered(), workers=1)
    batches.multiprocessing_context = "spawn"
    assert [number_in(batch) for (batch,) in batches] == list(range(COUNT))


class Pair(NamedTuple):
    small: Tensor
    large: Tensor


class Pairs(Dataset[Any]):
    """Two tensors of different sizes a batch: n, and 100 + n."""

    def __getitem__(self, number: int) -> Any:
        small, large = (
            stack_into_buffer([torch.full((side, side), value, dtype=torch.uint8)] * 4)
            for side, value in ((16, number), (32, 100 + number))
        )
        return Pair(small, large)


@pytest.mark.slow
def test_two_tensors_of_a_batch_have_buffers_of_their_own() -> None:
    found = [(number_in(small), number_in(large)) for small, large in loader(Pairs(), workers=1)]
    assert found == [(number, 100 + number) for number in range(COUNT)]
