"""Recognise failed memory allocations, and raise them as errors that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from farfield.errors import FarfieldError


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a failed allocation, of NumPy, of PyTorch, or of cuDNN or cuBLAS.

    Most of PyTorch's errors can be recognised only by their texts.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(
        re.search(r"allocate memory|CUDA error: out of memory|STATUS_ALLOC_FAILED", str(error))
    )


def describe_out_of_memory(error: BaseException) -> str:
    """Describe a failed allocation, for example "the GPU has too little free memory for 2.00 GiB more"."""
    on_gpu = isinstance(error, torch.OutOfMemoryError) or re.search(r"CUDA|CUDNN|CUBLAS", str(error))
    size = re.search(r"allocate ([\d.]+ [KMGTPE]?i?B|\d+ bytes)", str(error))
    amount = f" for {size[1]} more" if size else ""
    return f"{'the GPU' if on_gpu else 'this machine'} has too little free memory{amount}"


@contextmanager
def out_of_memory_as_ours(advice: str) -> Iterator[None]:
    """Convert a failed allocation in the `with` block to a `FarfieldError` that ends with `advice`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise FarfieldError(f"{describe_out_of_memory(error)}. {advice}") from error
