"""Reusable shared-memory buffers for batches.

PyTorch's loader allocates new shared memory for every batch, and the operating system clears this memory page by page.
For 8 clips of 8 x 224 x 224, clearing takes twenty times as long as copying the clips. Here each worker reuses a few
buffers. The main process maps each buffer once and then receives only the buffer's number. A buffer is free again when
no tensor or view in the main process refers to it.
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

BUFFERS_PER_WORKER = 6
"""Maximum number of buffers per worker: two for batches that wait to be received, one for the batch that the worker is
making, and three for batches that the main process uses.

If no buffer is free, the batch is put in newly allocated memory.
"""


class SharedBatches:
    """Main-process side of the shared buffers: receives batches from a loader's workers.

    Pass `init_worker` to the loader as `worker_init_fn`.

    Args:
        num_workers: number of the loader's worker processes.
    """

    def __init__(self, num_workers: int) -> None:
        self._name = uuid.uuid4().hex
        self._in_use = torch.zeros(num_workers, BUFFERS_PER_WORKER, dtype=torch.uint8).share_memory_()
        self._mapped: dict[tuple[int, int], Tensor] = {}
        _loaders[self._name] = self

    def init_worker(self, worker: int) -> None:
        """Make `stack_into_buffer` and `as_message` use this worker's buffers.

        Call this method in the worker process.
        """
        global _writer
        _writer = _BufferWriter(self._name, worker, self._in_use)

    def receive(self, worker: int, buffer: int, shape: tuple[int, ...], memory: Tensor | None) -> Tensor:
        """Return the batch in a buffer. The buffer becomes free when the batch and all its views are deleted.

        `memory` is the memory of a new buffer; None if the buffer is mapped already.
        """
        if memory is not None:
            self._mapped[worker, buffer] = memory
        # A new array for every batch: a tensor and its views keep it alive, and its finalizer frees the buffer.
        array = self._mapped[worker, buffer].numpy()[: math.prod(shape)]
        weakref.finalize(array, self._in_use[worker, buffer].zero_).atexit = False
        return torch.from_numpy(array).view(shape)


class _BufferWriter:
    """Worker side of the shared buffers: stacks batches in the buffers and makes the messages to send."""

    def __init__(self, name: str, worker: int, in_use: UInt8[Tensor, "workers buffers"]) -> None:
        self._name, self._worker, self._in_use = name, worker, in_use[worker]
        self._buffers: dict[int, Tensor] = {}
        self._stacked: dict[int, _BufferMessage] = {}  # by the address of a batch that was not sent yet: the message

    def stack(self, parts: Sequence[Tensor]) -> Tensor | None:
        """Stack tensors in a free buffer; return None if no buffer is free or the tensors are not uint8."""
        shape = (len(parts), *parts[0].shape)
        taken = {message.buffer for message in self._stacked.values()}
        free = (number for number in range(BUFFERS_PER_WORKER) if number not in taken and not self._in_use[number])
        number = next(free, None)
        if number is None or parts[0].dtype != torch.uint8:
            return None
        size = math.prod(shape)
        is_new = number not in self._buffers or len(self._buffers[number]) < size
        if is_new:
            self._buffers[number] = torch.empty(size, dtype=torch.uint8).share_memory_()
        buffer = self._buffers[number]
        batch = buffer[:size].view(shape)
        torch.stack(list(parts), out=batch)
        message = _BufferMessage(self._name, self._worker, number, shape, buffer if is_new else None)
        self._stacked[batch.data_ptr()] = message
        return batch

    def as_message(self, batch: Tensor) -> Any:
        """Return the message that is sent in place of a stacked batch, and mark the batch's buffer as in use.

        Any other tensor is returned unchanged.
        """
        message = self._stacked.pop(batch.data_ptr(), None)
        if message is None:
            return batch
        self._in_use[message.buffer] = 1
        return message


class _BufferMessage:
    """Message that a worker sends instead of a batch; unpickling it in the main process returns the batch."""

    def __init__(self, name: str, worker: int, buffer: int, shape: tuple[int, ...], memory: Tensor | None) -> None:
        self._name, self._worker, self.buffer, self._shape, self._memory = name, worker, buffer, shape, memory

    def __reduce__(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return _receive, (self._name, self._worker, self.buffer, self._shape, self._memory)


_writer: _BufferWriter | None = None
"""This worker's side of the shared buffers; None in the main process."""

_loaders: weakref.WeakValueDictionary[str, SharedBatches] = weakref.WeakValueDictionary()
"""Maps the name in a `_BufferMessage` to the `SharedBatches` that receives the message. Used in the main process."""


def _receive(name: str, *message: Any) -> Tensor:
    return _loaders[name].receive(*message)


def stack_into_buffer(parts: Sequence[Tensor]) -> Tensor:
    """Stack tensors. In a worker, the result is in a shared buffer if one is free."""
    batch = _writer.stack(parts) if _writer else None
    return default_collate(list(parts)) if batch is None else batch


def as_message(batch: Tensor) -> Any:
    """Return the message that is sent in place of a batch in a shared buffer; return any other tensor unchanged."""
    return _writer.as_message(batch) if _writer else batch
