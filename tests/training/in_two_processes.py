"""Run several farfield commands in two processes: torchrun --nproc_per_node=2 -m training.in_two_processes FILE.

FILE is JSON: {name: words of the command line}. Starting Python and importing torch takes longer than such a command.
The first process writes what a command prints to NAME.out beside FILE. The first command that fails ends the run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from farfield.cli import main


def run(file: Path) -> None:
    for name, words in json.loads(file.read_text()).items():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = main(words)
        if os.environ["RANK"] == "0":
            file.with_name(f"{name}.out").write_text(printed.getvalue())
        if status:
            sys.exit(f"{name} ended with {status}")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
