"""Run a function on many videos in worker processes. A hang or a crash on one video does not end the run.

Engine "local" uses processes on this machine. Engine "ray" uses the workers of a Ray cluster, whose machines must have
the files at the same paths.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pebble import ProcessExpired, ProcessPool

from farfield.errors import FarfieldError, VideoError, nearest

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

Engine = Literal["local", "ray"]
Job = TypeVar("Job")
Result = TypeVar("Result")

CRASHED = "the decoder crashed"


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use, which a container or scheduler may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    num_workers: int | None = None,
    seconds_per_job: float = 600,
    engine: Engine = "local",
) -> Iterator[tuple[Job, Result | str]]:
    """Run a function on all jobs. Yield each job, when it finishes, with its result or the reason for its failure.

    Args:
        function: function that is importable by name. A job fails, and the run continues, if the function raises a
            `VideoError` or takes longer than `seconds_per_job`, or if its worker process crashes or is lost: ended by
            Ray for lack of memory, or with its node of the Ray cluster. With engine "local", a `TimeoutError` of the
            function counts as taking too long. Any other error of the function ends the run.
        jobs: jobs to run. At most two per worker are taken from the iterable in advance, so that it can generate large
            jobs lazily.
        num_workers: number of processes; None for the number of cores of this machine, or of the cluster.
        seconds_per_job: timeout of each job in seconds.
        engine: "local" for processes on this machine, "ray" for the workers of a Ray cluster.

    Raises:
        FarfieldError: if the engine is unknown or not installed, `num_workers` or `seconds_per_job` is out of range, or
            (with engine "local") the process pool breaks, for example because a worker process ends while no job runs.
        Exception: any error of `function` that ends the run (see `function`), or any error of iterating over `jobs`.
    """
    if engine not in ENGINES:
        raise FarfieldError(f"engine is {engine!r}. {nearest(engine, ENGINES)}")
    if num_workers is not None and num_workers < 1:
        raise FarfieldError(f"num_workers is {num_workers}; it must be at least 1, or null.")
    if seconds_per_job <= 0:
        raise FarfieldError(f"the time limit per job is {seconds_per_job} s; it must be positive.")
    yield from ENGINES[engine](function, jobs, num_workers, seconds_per_job)


def worker_context(*modules: str) -> SpawnContext | ForkServerContext:
    """Return a multiprocessing context whose processes start quickly, with modules imported in advance on Linux.

    On Linux, processes are forked from a single-threaded server process that has imported the modules, so that the
    replacement for a stopped process is ready at once. Processes are not forked from the current process, since they
    would inherit locks held by its other threads. Other systems cannot fork safely once libraries are loaded, so each
    process there starts from scratch.

    Args:
        modules: names of the modules to import in advance; ignored on systems other than Linux.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context


def end_with_parent() -> None:
    """Start a thread that ends this process as soon as its parent process has ended, even if the parent was killed.

    Without it, the workers of a killed process would wait for jobs forever, and keep their memory.
    """
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def schedule(
    pool: ProcessPool, function: Callable[..., Result], arguments: list[Any], seconds: float | None = None
) -> Future[Result]:
    """Schedule a call of a function in a pool.

    Args:
        pool: pool of worker processes.
        function: function that is importable by name.
        arguments: positional arguments of the function.
        seconds: time limit of the call in seconds; None for no limit. A call that exceeds it is ended, and its future
            raises `TimeoutError`.

    Raises:
        BrokenProcessPool: if the pool is closed, stopped or broken. It breaks, for example, if a worker process ends
            while the pool runs no job.
    """
    try:
        return pool.schedule(function, args=arguments, timeout=seconds)
    except RuntimeError as error:
        raise BrokenProcessPool("a worker process ended while it ran no job") from error


def first_done(pool: ProcessPool, futures: Iterable[Future]) -> set[Future]:
    """Wait until at least one of a pool's futures is done, and return those that are.

    Raises:
        BrokenProcessPool: if the pool is broken or stopped while no future is done. This is checked, because waiting
            for the futures could take forever: in pebble 5.2.3, a future scheduled while a pool breaks is never done.
    """
    while True:
        active = pool.active  # before the wait: a pool that breaks still ends most futures, with the reason
        done, _ = wait(futures, timeout=1, return_when=FIRST_COMPLETED)
        if done:
            return done
        if not active:
            raise BrokenProcessPool("a worker process ended while it ran no job")


def _timeout_reason(seconds: float) -> str:
    return f"it took longer than {seconds:g} s"


class _JobQueue(Generic[Job]):
    """Queue of jobs from an iterable. An error of the iterable is kept for later, so that running jobs can finish."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = iter(jobs)
        self._error: Exception | None = None
        self.exhausted = False

    def take(self) -> Job | None:
        """Return the next job; None if no job is left, or the iterable has raised an error."""
        if not self.exhausted:
            try:
                return next(self._jobs)
            except StopIteration:
                self.exhausted = True
            except Exception as error:
                self.exhausted, self._error = True, error
        return None

    def raise_error(self) -> None:
        """Raise the error that the iterable raised, if any."""
        if self._error is not None:
            raise self._error


def _local(
    function: Callable[[Job], Result], jobs: Iterable[Job], num_workers: int | None, seconds: float
) -> Iterator[tuple[Job, Result | str]]:
    workers = num_workers or usable_cores()
    running: dict[Future, Job] = {}
    pool = ProcessPool(max_workers=workers, context=worker_context(function.__module__), initializer=end_with_parent)
    try:
        queue = _JobQueue(jobs)
        while running or not queue.exhausted:
            while len(running) < 2 * workers and (job := queue.take()) is not None:
                running[schedule(pool, function, [job], seconds)] = job
            for future in first_done(pool, running) if running else ():
                yield running.pop(future), _outcome(future, seconds)
        queue.raise_error()
    except BrokenProcessPool as error:
        raise FarfieldError(
            f"the worker processes failed ({error}), probably for lack of memory. Set a lower num_workers."
        ) from error
    finally:
        pool.stop()  # also if the caller stops iterating
        pool.join()


def _outcome(future: Future[Result], seconds: float) -> Result | str:
    try:
        return future.result()
    except VideoError as error:
        return error.reason
    except TimeoutError:
        return _timeout_reason(seconds)
    except ProcessExpired as error:
        return f"{CRASHED} (exit code {error.exitcode})"


def _ray(
    function: Callable[[Job], Result], jobs: Iterable[Job], num_workers: int | None, seconds: float
) -> Iterator[tuple[Job, Result | str]]:
    try:
        import ray
    except ImportError as error:
        raise FarfieldError("engine is 'ray', but Ray is not installed. Run pip install 'farfield[ray]'.") from error
    if not ray.is_initialized():
        # Joins the cluster at RAY_ADDRESS, or else starts one on this machine.
        ray.init(num_cpus=None if os.environ.get("RAY_ADDRESS") else num_workers, log_to_driver=False)
    remote = ray.remote(max_retries=0)(function)
    num_parallel = num_workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
    queue = _JobQueue(jobs)
    running: dict = {}
    while running or not queue.exhausted:
        while len(running) < num_parallel and (job := queue.take()) is not None:
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
            except ray.exceptions.OutOfMemoryError:
                yield job, "Ray ended its process, because the node had too little memory"
            except ray.exceptions.NodeDiedError:
                yield job, "its node of the Ray cluster was lost"
            except ray.exceptions.WorkerCrashedError:
                yield job, CRASHED
        late = [ref for ref, (_, started) in running.items() if time.monotonic() - started > seconds]
        for reference in late:
            ray.cancel(reference, force=True)
            yield running.pop(reference)[0], _timeout_reason(seconds)
    queue.raise_error()


ENGINES: dict[Engine, Callable[..., Iterator]] = {"local": _local, "ray": _ray}
