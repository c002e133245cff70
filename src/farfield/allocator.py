"""Memory that is freed on the CPU stays with the process, instead of going back to the system after every layer.

By default glibc asks the system for each large array and gives it back when it is freed; each time, the system hands it
out anew, page by page, filled with zeros. A training step allocates and frees the same arrays over and over; so does a
network that scores one batch of views after the other. PyTorch's tuning guide recommends other allocators for the same
reason; this needs none.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to give nothing back to the system; whether it could. Elsewhere nothing is done."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
