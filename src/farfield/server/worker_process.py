"""Entry points of a worker process.

The server's own process imports this file, too. The file must therefore import neither PyTorch nor a decoder.
"""

from __future__ import annotations

import signal
import warnings
from importlib import import_module
from typing import Any

from farfield.parallel import end_with_parent
from farfield.server.limits import ServerSettings

_TASKS = "farfield.server.worker_tasks"
_start_error: Exception | None = None


def start(settings: ServerSettings) -> None:
    """Initialise this worker process: load the network.

    If loading fails, the error is stored, and `call` raises it for each task. If this function raised the error, the
    pool would only see that a process ended.
    """
    global _start_error
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the server ends its workers
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # from torchvision and fvcore
    try:
        import_module(_TASKS).start(settings)
    except Exception as error:
        _start_error = error


def call(function: str, arguments: tuple[Any, ...]) -> Any:
    """Call a function of `worker_tasks` by name."""
    if _start_error is not None:
        raise _start_error
    return getattr(import_module(_TASKS), function)(*arguments)
