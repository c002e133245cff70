"""Start processes as forks of one that has imported PyTorch: a new interpreter takes seconds for it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import farfield
from farfield.parallel import worker_context

PRELOADED = (
    "pytorchvideo.models.hub",
    "farfield.training.config",
    "farfield.server.worker_tasks",
    "torch.fx.experimental.symbolic_shapes",
)
"""What most processes of the tests need."""


def start_fork_server() -> None:
    """Start Python's fork server with `PRELOADED`, unless it runs already: it keeps the modules of its first user."""
    worker_context(*PRELOADED)
    forkserver.ensure_running()


class ForkedScript:
    """A fork that runs a script, in place of `subprocess.Popen` with pipes of text to and from it.

    A fork has the farfield that the tests have imported, so a script cannot ask for another by PYTHONPATH.
    """

    def __init__(self, command: list[str], *, env: Mapping[str, str] | None = None, **_: Any) -> None:
        if env is not None:
            assert Path(farfield.__file__).is_relative_to(env["PYTHONPATH"])
        words = command[3:] if command[1] == "-W" else command[1:]
        context = worker_context()
        script_reads, we_write = context.Pipe(duplex=False)
        we_read, script_writes = context.Pipe(duplex=False)
        self.process = context.Process(target=run_script, args=(words, script_reads, script_writes))
        self.process.start()
        self.stdin = os.fdopen(os.dup(we_write.fileno()), "w", buffering=1)
        self.stdout = os.fdopen(os.dup(we_read.fileno()))
        for each in (script_reads, we_write, we_read, script_writes):
            each.close()

    def wait(self) -> int | None:
        self.stdout.close()
        self.process.join(300)
        return self.process.exitcode


def run_forked(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script in place of `subprocess.run`; what it prints to its standard error is shown, not returned."""
    script = ForkedScript(command)
    script.stdin.close()
    printed = script.stdout.read()
    return subprocess.CompletedProcess(command, script.wait() or 0, printed, "")


def run_script(words: list[str], reads: Connection, writes: Connection) -> None:
    """Run a script as `python FILE ...` does, with connections as its standard input and output."""
    sys.stdin = os.fdopen(os.dup(reads.fileno()))
    sys.stdout = os.fdopen(os.dup(writes.fileno()), "w", buffering=1)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
