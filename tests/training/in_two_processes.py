"""Run farfield commands in two processes, which torchrun's agent or Lightning starts.

Call: python -m training.in_two_processes FILE. FILE is JSON: {"torchrun": {name: words of a command}, "lightning":
words of a command}. Imports take longer than such a command, so torchrun's processes are forked from this one, and
this process is the first of Lightning's. Each command of torchrun writes NAME.out beside FILE: what its first process
prints on standard output. The first command that fails ends the run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path

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


if __name__ == "__main__":
    file = Path(sys.argv[1])
    content = json.loads(file.read_text())
    # As torchrun --standalone --nproc_per_node=2, which starts a module where this forks.
    config = LaunchConfig(
        1, 1, 2, run_id="tests", rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork", max_restarts=0
    )
    elastic_launch(config, run_all)(content["torchrun"], file.parent)
    print(LIGHTNING, file=sys.stderr, flush=True)
    sys.argv = ["farfield", *content["lightning"]]
    runpy.run_module("farfield", run_name="__main__", alter_sys=True)  # Lightning starts the same command again
