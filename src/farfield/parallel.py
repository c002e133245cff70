"""A function over many videos, each in a process of its own: one that hangs or crashes costs itself, not the run.

`local` uses processes of this machine, `ray` the workers of a Ray cluster that sees the same files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from multiprocessing import get_context
from typing import Generic, Literal, TypeVar

from pebble import ProcessExpired, ProcessPool

from farfield.errors import FarfieldError, VideoError, nearest

Engine = Literal["local", "ray"]
Job = TypeVar("Job")
Result = TypeVar("Result")

CRASHED = "the decoder crashed"


def usable_cores() -> int:
    """Cores that this process may use, which a container or scheduler may have made fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    num_workers: int | None = None,
    seconds_per_job: float = 600,
    engine: Engine = "local",
) -> Iterator[tuple[Job, Result | str]]:
    """Yields each job with its result, or with the reason why there is none, in the order in which they end.

    Args:
        function: importable by name; it raises a `VideoError` where one job cannot be done. Any other error ends all.
        jobs: taken as workers become free, so that they may be made on the way, and large.
        num_workers: processes; None for the cores of this machine, or of the cluster.
        seconds_per_job: a job that takes longer is ended.
        engine: "local" or "ray".

    Raises:
        FarfieldError: for an engine that is unknown or not installed, and whatever else `function` raises.
    """
    if engine not in ENGINES:
        raise FarfieldError(f"engine is {engine!r}. {nearest(engine, ENGINES)}")
    if num_workers is not None and num_workers < 1:
        raise FarfieldError(f"num_workers is {num_workers}; it must be at least 1, or null.")
    if seconds_per_job <= 0:
        raise FarfieldError(f"the time limit is {seconds_per_job} s; it must be positive.")
    yield from ENGINES[engine](function, jobs, num_workers, seconds_per_job)


def _too_long(seconds: float) -> str:
    return f"it took longer than {seconds:g} s"


class _Source(Generic[Job]):
    """Jobs, one at a time. Where making them fails, those that run are done before the error is raised."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = iter(jobs)
        self._error: Exception | None = None
        self.exhausted = False

    def take(self) -> Job | None:
        if not self.exhausted:
            try:
                return next(self._jobs)
            except StopIteration:
                self.exhausted = True
            except Exception as error:
                self.exhausted, self._error = True, error
        return None

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _local(
    function: Callable[[Job], Result], jobs: Iterable[Job], num_workers: int | None, seconds: float
) -> Iterator[tuple[Job, Result | str]]:
    workers = num_workers or usable_cores()
    running: dict[Future, Job] = {}
    # Not forked: a worker that replaces a crashed one would inherit locks that other threads hold.
    pool = ProcessPool(max_workers=workers, context=get_context("spawn"))
    try:
        waiting = _Source(jobs)
        while running or not waiting.exhausted:
            while len(running) < 2 * workers and (job := waiting.take()) is not None:
                running[pool.schedule(function, args=[job], timeout=seconds)] = job
            done, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), None)
            for future in done:
                yield running.pop(future), _outcome(future, seconds)
        waiting.raise_error()
    finally:
        pool.stop()  # also where whoever asks has stopped asking
        pool.join()


def _outcome(future: Future[Result], seconds: float) -> Result | str:
    try:
        return future.result()
    except VideoError as error:
        return error.reason
    except TimeoutError:
        return _too_long(seconds)
    except ProcessExpired as error:
        return f"{CRASHED} (exit code {error.exitcode})"


def _ray(
    function: Callable[[Job], Result], jobs: Iterable[Job], num_workers: int | None, seconds: float
) -> Iterator[tuple[Job, Result | str]]:
    try:
        import ray
    except ImportError as error:
        raise FarfieldError("engine is 'ray', which is not installed: pip install 'farfield[ray]'.") from error
    if not ray.is_initialized():
        # Joins the cluster that RAY_ADDRESS names; without it, one of this machine's cores.
        ray.init(num_cpus=None if os.environ.get("RAY_ADDRESS") else num_workers, log_to_driver=False)
    remote = ray.remote(max_retries=0)(function)
    at_once = num_workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
    waiting = _Source(jobs)
    running: dict = {}
    while running or not waiting.exhausted:
        while len(running) < at_once and (job := waiting.take()) is not None:
            running[remote.remote(job)] = (job, time.monotonic())
        done, _ = ray.wait(list(running), timeout=1.0) if running else ([], None)
        for reference in done:
            job, _ = running.pop(reference)
            try:
                yield job, ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, VideoError):
                    yield job, error.cause.reason
                else:
                    raise error.cause from error
            except ray.exceptions.WorkerCrashedError:
                yield job, CRASHED
        late = [ref for ref, (_, begun) in running.items() if time.monotonic() - begun > seconds]
        for reference in late:
            ray.cancel(reference, force=True)
            yield running.pop(reference)[0], _too_long(seconds)
    waiting.raise_error()


ENGINES: dict[Engine, Callable[..., Iterator]] = {"local": _local, "ray": _ray}
