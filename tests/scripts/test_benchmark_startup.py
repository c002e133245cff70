"""The parts of the benchmark of start-up; all of it takes minutes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from benchmark_startup import cpu_seconds, in_turns, output_of, process_tree, pss_mib, row


def test_measures_take_turns() -> None:
    taken: list[str] = []
    values = {"a": iter([3.0, 1.0, 2.0]), "b": iter([7.0, 5.0, 11.0])}

    def measure(name: str) -> float:
        taken.append(name)
        return next(values[name])

    found = in_turns({"a": lambda: measure("a"), "b": lambda: measure("b")}, 3)
    assert taken == ["a", "b"] * 3
    assert found == {"a": 2, "b": 7}
    assert row("a", found["a"], "b", found["b"])["ratio"] == 2 / 7


def test_time_and_memory_are_those_of_processes() -> None:
    work = "import time\nwhile time.process_time() < 0.2: pass"
    assert 0.2 <= cpu_seconds(work) < 1
    with pytest.raises(SystemExit, match="first second ended with status 3"):
        output_of("raise SystemExit(3)", "first", "second")
    wait = "import sys; held = b'x' * (64 * 2**20); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in process_tree(os.getpid())
        assert 64 < pss_mib(child.pid) < 128
        child.stdin.close()
