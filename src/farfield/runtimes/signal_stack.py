"""Preserve the thread's alternate signal stack while OpenVINO loads its CPU plugin.

OpenVINO's CPU plugin sets an alternate signal stack for the thread that loads the plugin. When the plugin is unloaded,
it frees this stack and restores the previous stack. If two plugins are loaded, and the first is unloaded before the
second, the second later restores the first plugin's stack, which is already freed. The next signal that Python handles
(Ctrl-C, the end of a child process) then kills the process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """The C struct `stack_t` of Linux, which describes a signal stack."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Restore the thread's signal stack after the `with` block, in which OpenVINO loads a plugin.

    Otherwise the next plugin that is loaded would save this plugin's stack, and later restore a stack that has already
    been freed.
    """
    if sys.platform != "linux":  # on other systems the plugin does not change it
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
