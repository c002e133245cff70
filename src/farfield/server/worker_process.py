"""The way into a process that computes. Light: the server itself never imports PyTorch or a decoder."""

from __future__ import annotations

import signal
import warnings
from importlib import import_module
from typing import Any

from farfield.server.limits import Setting

_failed: Exception | None = None


def start(setting: Setting) -> None:
    """Gets this process ready. What fails is raised by its jobs: the pool would only end, and say nothing."""
    global _failed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server ends its processes itself
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # torchvision's and fvcore's
    try:
        import_module("farfield.server.worker").start(setting)
    except Exception as error:
        _failed = error


def call(function: str, arguments: tuple[Any, ...]) -> Any:
    """Calls a function of `worker` by its name."""
    if _failed is not None:
        raise _failed
    return getattr(import_module("farfield.server.worker"), function)(*arguments)
