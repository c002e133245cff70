"""Run a page's bash blocks: bash itself reads them, and the commands that are farfield's are handed to this process.

Bash expands variables, loops, pipes and redirects. On its PATH, `farfield`, `python`, `pip`, ... are a small client
that sends its words, folder, environment and standard streams here, where the command runs without a new interpreter
that imports PyTorch.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docs.markdown_blocks import Block

Handle = Callable[[list[str]], int]
"""Runs a command, given as its words, and returns its exit status."""

SECONDS = 240
"""Limit of a block."""
OURS = ("farfield", "python", "python3", "pip", "torchrun", "sbatch", "srun")
TOOLS = (
    *("basename", "cat", "cp", "cut", "dirname", "du", "find", "grep", "head", "ln", "ls", "mkdir", "mv", "sed"),
    *("sleep", "sort", "tail", "tee", "tr", "uniq", "wc", "xargs"),
)
"""Programs that blocks may call; others need a marker."""

CLIENT_FILE = ".client"
CLIENT = """\
#!PYTHON -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(os.environ["FARFIELD_SOCKET"])
words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(json.dumps([words, os.getcwd(), dict(os.environ)]).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.recv(16) or 70))
"""
RUN_PRELUDE = """\
set -eE -o pipefail
trap 'echo "line $LINENO: $BASH_COMMAND" >> "$FAILED"' ERR
command_not_found_handle() {
    echo "$1 is not run in this test. Mark the block, for example by <!-- needs: download --> or <!-- not ours -->." >&2
    return 127
}
"""
PARSE_PRELUDE = """\
set -E
trap 'echo "line $LINENO: $BASH_COMMAND" >> "$FAILED"' ERR
command_not_found_handle() { return 0; }
cd() { return 0; }
source() { return 0; }
exec() { return 0; }
export -f command_not_found_handle cd source exec
"""


@dataclass(frozen=True)
class Failure:
    """A failed block: where, and the output."""

    place: str
    output: str

    def __str__(self) -> str:
        return f"{self.place}\n{self.output.strip()}"


def run_bash(block: Block, folder: Path, handle: Handle) -> Failure | None:
    """Run a block in a folder; return the failure, if a command failed.

    Of a block that needs what a test does not have, other programs than farfield's are left out, and `handle` is to
    parse the commands only.
    """
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        address = str(work / "socket")
        _write_programs(work / "bin", folder / CLIENT_FILE, tools=not block.needs)
        (work / "prelude").write_text(PARSE_PRELUDE if block.needs else RUN_PRELUDE)
        (work / "block").write_text("\n" * (block.line - 1) + block.code)  # so that lines are those of the page
        variables = {"PATH": str(work / "bin"), "BASH_ENV": str(work / "prelude"), "FAILED": str(work / "failed")}
        variables |= {"HOME": str(folder), "FARFIELD_SOCKET": address}
        bash = shutil.which("bash")
        assert bash
        with socket.socket(socket.AF_UNIX) as server, (work / "output").open("wb") as output:
            server.bind(address)
            server.listen()
            server.settimeout(0.02)
            process = subprocess.Popen(
                [bash, str(work / "block")],
                cwd=folder,
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            with time_limit():
                try:
                    _answer(server, process, handle)
                finally:
                    process.kill()
                    process.wait()
        shown = (work / "output").read_text(errors="replace")
        failed = (work / "failed").read_text().splitlines() if (work / "failed").exists() else []
        if process.returncode == 0 and not failed:
            return None
        line, _, command = (failed[0] if failed else f"line {block.line}: {block.code}").partition(": ")
        return Failure(f"{block.page}:{line.removeprefix('line ')}: {command}", shown[-3000:])


def write_client(folder: Path) -> Path:
    """Write the client into a page's folder. Under another name it hands over the command of that name."""
    client = folder / CLIENT_FILE
    client.write_text(CLIENT.replace("PYTHON", sys.executable))
    client.chmod(0o755)
    return client


def _write_programs(folder: Path, client: Path, *, tools: bool) -> None:
    folder.mkdir()
    for name in OURS:
        (folder / name).symlink_to(client)
    for name in TOOLS if tools else ():
        if found := shutil.which(name):
            (folder / name).symlink_to(found)


def _answer(server: socket.socket, process: subprocess.Popen[bytes], handle: Handle) -> None:
    """Run the commands that a block hands over, one after the other, until bash has ended."""
    while process.poll() is None:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        with connection:
            _, streams, *_ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as sent:
                words, folder, variables = json.load(sent)
            with _streams(streams), _surroundings(folder, variables):
                status = _status(handle, words)
            connection.sendall(str(status).encode())


def _status(handle: Handle, words: list[str]) -> int:
    try:
        return handle(words)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except TimeoutError:
        raise
    except Exception:
        traceback.print_exc()
        return 70


@contextmanager
def _streams(given: list[int]) -> Iterator[None]:
    """Let this process have a client's standard streams, also for the processes that it starts."""
    before = sys.stdin, sys.stdout, sys.stderr
    for stream in before[1:]:
        stream.flush()
    saved = [os.dup(number) for number in range(3)]
    try:
        for number, stream in enumerate(given):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, closefd=False)  # noqa: SIM115  # of these files
            for number, mode in enumerate("rww")
        )
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
        sys.stdin, sys.stdout, sys.stderr = before
        for number, stream in enumerate(saved):
            os.dup2(stream, number)
            os.close(stream)


@contextmanager
def _surroundings(folder: str, variables: dict[str, str]) -> Iterator[None]:
    """Let this process have a client's working folder and its environment, except PATH and the like."""
    here, before = Path.cwd(), dict(os.environ)
    ours = {"PATH", "BASH_ENV", "FAILED", "FARFIELD_SOCKET", "HOME", "_", "SHLVL", "PWD", "OLDPWD"}
    os.chdir(folder)
    os.environ.update({name: value for name, value in variables.items() if name not in ours})
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"the block took longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
