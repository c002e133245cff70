"""Keep freed CPU memory in the process, instead of returning it to the operating system after every layer.

By default glibc gets the memory of each large array from the operating system and returns it when the array is freed.
The system clears the pages each time. Training steps, and inference on batches of views, allocate and free arrays of
the same sizes repeatedly. PyTorch's tuning guide recommends other allocators to avoid this cost. This module keeps
glibc's allocator and avoids the cost by changing two of its settings.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Configure glibc's allocator to keep freed memory, and return whether that succeeded; False without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
