"""Recognise failed memory allocations, and raise them as errors that say what to do.

This file does not import PyTorch: every command imports this file, and `--help` must stay fast.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from farfield.errors import FarfieldError

_ON_GPU = re.compile(
    r"(CUDA|HIP|XPU|MPS backend) out of memory|(CUDA|HIP)( driver)? error: out of memory|"
    r"Cuda failure \d+ 'out of memory'|\b(CUDNN|CUBLAS|CUSOLVER|CUSPARSE)_STATUS_\w*ALLOC(ATION)?_FAILED"
)
_ON_CPU = re.compile(
    r"(can't|[Cc]annot|[Uu]nable to|[Ff]ailed to) allocate (shared )?memory|not enough memory: you tried to allocate|"
    r"[Uu]nable to allocate [\d.]+ \w+ for an array"
)
_KILLED_WORKER = re.compile(r"DataLoader worker \(pid \d+\) is killed by signal: (Killed|Bus error)")
_SIZE = re.compile(r"allocate (?:([\d.]+ [KMGTPE]i?B)|(\d+) bytes)")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a failed allocation by NumPy, PyTorch, a GPU library or an exported network's runtime.

    Most of these errors can be recognised only by the text. An error from a data loader's worker contains the text of
    the original error. An error counts, too, if it reports that a worker was killed by a signal that full memory or
    full shared memory causes. Lightning's `is_oom_error` knows neither NumPy's errors nor those of workers, and is slow
    to import.
    """
    if isinstance(error, FarfieldError):
        return False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, Exception) and (
        _ON_GPU.search(text) is not None or _ON_CPU.search(text) is not None or _is_of_killed_worker(error)
    )


def describe_out_of_memory(error: BaseException) -> str:
    """Describe a failed allocation, for example "the GPU has too little free memory for 2.00 GiB more"."""
    text = str(error)
    if _is_of_killed_worker(error):
        return "a data loader's process was killed, probably because memory or shared memory (/dev/shm) is full"
    size = _SIZE.search(text)
    amount = "" if size is None else f" for {size[1] or _with_unit(int(size[2]))} more"
    return f"{'the GPU' if _is_on_gpu(error) else 'this machine'} has too little free memory{amount}"


def _is_on_gpu(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return False
    return type(error).__name__ == "OutOfMemoryError" or _ON_GPU.search(str(error)) is not None


def _is_of_killed_worker(error: BaseException) -> bool:
    """Return whether an error says that a data loader's worker was killed by a signal that full memory causes.

    These signals are "Killed" and "Bus error"; a crash has others. The text of the error that `error` was raised from
    is searched, too. PyTorch names no signal if another library has replaced its handler of SIGCHLD.
    """
    return any(_KILLED_WORKER.search(str(each)) is not None for each in (error, error.__cause__))


def _with_unit(num_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.2f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.2f} EiB"


@contextmanager
def out_of_memory_as_ours(advice: str, *, on_gpu: str | None = None) -> Iterator[None]:
    """Convert a failed allocation in the `with` block, or in a decorated function, to a `FarfieldError`.

    Args:
        advice: sentences that say what needs less memory. They end the message.
        on_gpu: sentences that replace `advice` if the GPU's memory is full; None to use `advice` then, too.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fits = on_gpu if on_gpu is not None and _is_on_gpu(error) else advice
        raise FarfieldError(f"{describe_out_of_memory(error)}. {fits}") from error
