"""Measure the memory of a call by PyTorch's own record of allocations."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import TypeVar

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages; read when torch is imported

import torch
from torch.profiler import ProfilerActivity, profile

Result = TypeVar("Result")


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """Measure the peak memory of a call above the memory in use before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    _, changes = _recorded(call)
    return max(accumulate(changes), default=0)


def held_bytes(call: Callable[[], Result]) -> tuple[Result, int]:
    """Measure the memory on the CPU that a call leaves allocated, its result included; return the result, too."""
    result, changes = _recorded(call)
    return result, sum(changes)


def _recorded(call: Callable[[], Result]) -> tuple[Result, list[int]]:
    """Return the result of a call, and the allocations (positive) and releases (negative) in bytes, in order."""
    with _without_garbage(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    # events() leaves out what an operator allocates for itself; the record beneath it has every change, in order.
    record = profiler.profiler.kineto_results.events()
    return result, [event.nbytes() for event in record if event.name() == "[memory]"]


@contextmanager
def _without_garbage() -> Iterator[None]:
    """Let no tensors of earlier calls be released meanwhile: those in reference cycles wait until after the call."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
