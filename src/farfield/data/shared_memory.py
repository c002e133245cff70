"""Shared memory that workers put batches into, the same again and again.

PyTorch's loader makes new shared memory for every batch, and the system clears it page by page: for 8 clips of
8 x 224 x 224 that takes twenty times as long as copying them. Here a worker keeps a few slots. The process that trains
maps each of them once, is told of later batches by the slot's number, and gives a slot back when nothing refers to the
tensor, or to a view of it, any more.
"""

from __future__ import annotations

import math
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import default_collate

SLOTS = 6
"""Of a worker, at most: two batches wait, one is being made, others are in use. Beyond, memory is new every time."""


class SharedBatches:
    """The slots of a loader's workers. `in_worker` is the loader's `worker_init_fn`.

    Args:
        num_workers: processes that load.
    """

    def __init__(self, num_workers: int) -> None:
        self._name = uuid.uuid4().hex
        self._lent = torch.zeros(num_workers, SLOTS, dtype=torch.uint8).share_memory_()
        self._mapped: dict[tuple[int, int], Tensor] = {}
        _of_this_process[self._name] = self

    def in_worker(self, worker: int) -> None:
        """Makes `stacked` and `handed_over` use this worker's slots."""
        global _writer
        _writer = _Writer(self._name, worker, self._lent)

    def received(self, worker: int, slot: int, shape: tuple[int, ...], memory: Tensor | None) -> Tensor:
        """The batch in a slot; once it and all views of it are gone, the slot is free."""
        if memory is not None:
            self._mapped[worker, slot] = memory
        # An array of its own for every batch: a tensor's memory keeps it, as long as there is a view.
        array = self._mapped[worker, slot].numpy()[: math.prod(shape)]
        weakref.finalize(array, self._lent[worker, slot].zero_).atexit = False
        return torch.from_numpy(array).view(shape)


class _Writer:
    def __init__(self, name: str, worker: int, lent: UInt8[Tensor, "workers slots"]) -> None:
        self._name, self._worker, self._lent = name, worker, lent[worker]
        self._memory: dict[int, Tensor] = {}
        self._made: tuple[int, _InSlot] | None = None  # where the last batch begins, and what to send of it

    def stacked(self, parts: Sequence[Tensor]) -> Tensor | None:
        """`torch.stack` in a free slot; None where there is none."""
        shape = (len(parts), *parts[0].shape)
        slot = next((slot for slot in range(SLOTS) if not self._lent[slot]), None)
        if slot is None or parts[0].dtype != torch.uint8:
            return None
        size = math.prod(shape)
        is_new = slot not in self._memory or len(self._memory[slot]) < size
        if is_new:
            self._memory[slot] = torch.empty(size, dtype=torch.uint8).share_memory_()
        memory = self._memory[slot]
        batch = memory[:size].view(shape)
        torch.stack(list(parts), out=batch)
        self._made = batch.data_ptr(), _InSlot(self._name, self._worker, slot, shape, memory if is_new else None)
        return batch

    def handed_over(self, batch: Tensor) -> Any:
        if self._made is None or self._made[0] != batch.data_ptr():
            return batch
        message, self._made = self._made[1], None
        self._lent[message.slot] = 1
        return message


class _InSlot:
    """What is sent instead of a batch. It arrives as a tensor."""

    def __init__(self, name: str, worker: int, slot: int, shape: tuple[int, ...], memory: Tensor | None) -> None:
        self._name, self._worker, self.slot, self._shape, self._memory = name, worker, slot, shape, memory

    def __reduce__(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return _received, (self._name, self._worker, self.slot, self._shape, self._memory)


_writer: _Writer | None = None
"""Of this process, where it is a worker."""

_of_this_process: weakref.WeakValueDictionary[str, SharedBatches] = weakref.WeakValueDictionary()


def _received(name: str, *message: Any) -> Tensor:
    return _of_this_process[name].received(*message)


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """`torch.stack`, in a worker in memory that is shared already."""
    batch = _writer.stacked(parts) if _writer else None
    return default_collate(list(parts)) if batch is None else batch


def handed_over(batch: Tensor) -> Any:
    """What a worker sends of a tensor that `stacked` made; other tensors as they are."""
    return _writer.handed_over(batch) if _writer else batch
