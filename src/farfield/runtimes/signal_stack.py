"""The thread's stack for signals, kept through what OpenVINO does to it.

OpenVINO's CPU plugin gives the thread that loads it an alternate stack for signals; when it is unloaded, it frees that
stack and restores the one before. If the plugin loaded first is also unloaded first, the second restores a stack that
has been freed, and the next signal that Python handles (Ctrl-C, a child's end) kills the process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """Linux's stack_t."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Puts the stack back that there was, so that nothing is left for a plugin to take away."""
    if sys.platform != "linux":  # elsewhere the plugin leaves it alone
        yield
        return
    sigaltstack = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    known = sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            sigaltstack(ctypes.byref(before), None)
