"""Run farfield commands in two processes, which torchrun's agent or Lightning starts.

Torchrun's processes are forked from the one that calls `run_commands`, which is the first of Lightning's processes.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import farfield.commands.fit
import farfield.commands.test  # noqa: F401  # before the fork
from farfield.cli import main

LIGHTNING = "=== processes that Lightning starts ==="
"""Line on standard error between the two parts."""


def run_all(commands: dict[str, list[str]], folder: Path) -> None:
    rank_zero_only.rank = int(os.environ["RANK"])  # as Lightning sets it when it is imported  # type: ignore[attr-defined]
    for name, words in commands.items():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = main(words)
        if os.environ["RANK"] == "0":
            (folder / f"{name}.out").write_text(printed.getvalue())
        if status:
            sys.exit(f"{name} ended with {status}")


def run_commands(by_torchrun: dict[str, list[str]], by_lightning: list[str], folder: Path) -> None:
    """Run commands in two processes each, and end this process. The first command that fails ends the run.

    Args:
        by_torchrun: words of each command by its name. What its first process prints on standard output is written
            to NAME.out.
        by_lightning: words of a command whose second process Lightning starts.
        folder: folder of NAME.out, and of errors.txt: standard error of all processes.
    """
    torch.set_num_threads(1)  # a fork has none of the threads that computed before
    sys.stderr = (folder / "errors.txt").open("w", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    # As torchrun --standalone --nproc_per_node=2, which starts a module where this forks.
    config = LaunchConfig(
        1, 1, 2, run_id="tests", rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork", max_restarts=0
    )
    elastic_launch(config, run_all)(by_torchrun, folder)
    print(LIGHTNING, file=sys.stderr, flush=True)
    sys.argv = ["farfield", *by_lightning]
    runpy.run_module("farfield", run_name="__main__", alter_sys=True)  # Lightning starts the same command again
