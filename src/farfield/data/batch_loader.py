"""Data loader for datasets that return whole batches, with reusable shared memory."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_convert

from farfield.data.datasets import Batch
from farfield.data.shared_memory import SharedBatches, as_message


def batch_loader(dataset: Dataset[Batch], batches: Sampler, num_workers: int) -> DataLoader[Batch]:
    """Create a loader for a dataset whose items are whole batches.

    Args:
        dataset: dataset whose `__getitem__` takes the keys of all samples of a batch, and returns the batch.
        batches: sampler that yields, for each batch, the list of its samples' keys; see `samplers`.
        num_workers: number of worker processes; 0 loads in the main process.
    """
    return _BatchLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_encode,
        worker_init_fn=SharedBatches(num_workers).init_worker,  # the bound method keeps the buffers alive
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # own generator: the loader must not change the state that dropout uses
    )


class _BatchLoader(DataLoader[Batch]):
    """Loader whose workers send small tensors as NumPy arrays, which the main process converts back to tensors.

    PyTorch sends a tensor as a file in shared memory. Opening the file takes longer than copying a thousand numbers.
    """

    def __iter__(self) -> Any:
        return map(default_convert, super().__iter__())


def _encode(part: Any) -> Any:
    """Encode a batch, or a part of it, for sending it from a worker to the main process.

    A tensor in a shared buffer becomes a message that names the buffer, see `as_message`. Any other tensor of at most
    1000 elements becomes a NumPy array, see `_BatchLoader`. Tuples are encoded element by element.
    """
    if isinstance(part, torch.Tensor):
        message = as_message(part)
        return part.numpy() if message is part and part.numel() <= 1000 else message
    if isinstance(part, tuple):
        return type(part)(*(_encode(each) for each in part))
    return part
