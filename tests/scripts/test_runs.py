"""Runs of scripts that train many networks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SCRIPT = """
import runs, sys
from pathlib import Path
if __name__ == "__main__":
    print("started", flush=True)
    runs.run_commands([["data", "synthesize", "figures", sys.argv[1], "--num_train=100000"]], Path(sys.argv[2]))
"""


def processes_with(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if word in (folder / "environ").read_bytes().decode(errors="replace"):
                    found.append(int(folder.name))
            except OSError:  # it has ended, or is another user's
                continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="lists processes as Linux does")
def test_a_run_ends_when_its_script_is_killed(tmp_path: Path) -> None:
    mark = f"MARK_OF_THIS_TEST={tmp_path}"
    name, value = mark.split("=")
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path / "hours", tmp_path / "log.txt"],
        cwd=SCRIPTS,
        env={**os.environ, name: value},
        stdout=subprocess.PIPE,
    ) as script:
        assert script.stdout is not None
        script.stdout.readline()
        deadline = time.monotonic() + 60
        while not any(tmp_path.glob("hours*/**/*.mp4")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(processes_with(mark)) >= 5  # script, fork server, run, its fork server and workers
        script.send_signal(signal.SIGKILL)
        script.wait()
        while processes_with(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert processes_with(mark) == []
