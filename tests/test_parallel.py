"""Jobs in processes: results, crashes, timeouts and errors."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

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
