"""Jobs in processes: results, crashes, timeouts and errors."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from pebble import ProcessPool

from failing_jobs import end, misbehave
from farfield import parallel
from farfield.errors import FarfieldError
from farfield.parallel import first_done, for_each, schedule


@pytest.mark.slow
def test_a_crash_or_a_hang_costs_one_video() -> None:
    jobs = ["a", "crash", "b", "hang", "bad", *"cdefgh"]
    results = dict(for_each(misbehave, jobs, num_workers=2, seconds_per_job=5))
    assert results.pop("crash") == "the decoder crashed (exit code -11)"
    assert results.pop("hang") == "it took longer than 5 s"
    assert results.pop("bad") == "it is no good"
    assert results == {job: job.upper() for job in "abcdefgh"}
    with pytest.raises(KeyError, match="a defect of ours"):
        list(for_each(misbehave, ["a", "defect"], num_workers=1))


def test_jobs_are_generated_lazily() -> None:
    made = []
    jobs = (made.append(i) or str(i) for i in range(100))
    running = for_each(misbehave, jobs, num_workers=1)
    next(running)
    assert len(made) < 10
    running.close()


def test_processes_that_end_at_their_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "end_with_parent", end)
    with pytest.raises(FarfieldError, match=r"the worker processes failed .*Set a lower num_workers"):
        list(for_each(misbehave, "abc", num_workers=1))


def test_a_job_that_the_pool_forgot_is_not_waited_for() -> None:
    pool = ProcessPool(max_workers=1)
    pool.stop()
    with pytest.raises(BrokenProcessPool):
        first_done(pool, [Future()])
    with pytest.raises(BrokenProcessPool):
        schedule(pool, misbehave, ["a"])


@pytest.mark.slow
@pytest.mark.dependency
def test_a_node_with_too_little_memory_costs_one_video() -> None:
    """Ray's monitor of memory ends processes above a threshold; any machine is above this one."""
    pytest.importorskip("ray")
    monitor = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "50", "RAY_worker_niceness": "0"}
    script = (
        "from farfield.parallel import for_each\n"
        "from failing_jobs import misbehave\n"
        "print(list(for_each(misbehave, ['hang'], num_workers=1, engine='ray', seconds_per_job=60)))\n"
    )
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | monitor | here, capture_output=True, text=True, timeout=120
    )
    reason = "Ray ended its process, because the node had too little memory"
    assert run.stdout.splitlines()[-1:] == [f"[('hang', {reason!r})]"], run.stderr
