"""Pool of worker processes with a bounded queue and a time limit for each request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from pebble import ProcessExpired, ProcessPool

from farfield.errors import FarfieldError
from farfield.memory_errors import out_of_memory_as_ours
from farfield.parallel import first_done, schedule, worker_context
from farfield.server import worker_process
from farfield.server.limits import Limits, ServerSettings
from farfield.server.refusals import Refused

log = logging.getLogger("farfield")

_IMPORTED_BY_LOADING = "torch.fx.experimental.symbolic_shapes"
"""Module that PyTorch imports while a network is loaded. Imported in advance, its memory is shared by the workers."""


class WorkerPool:
    """The worker processes and their queue of requests, shared by the page and the HTTP API.

    Use a pool from one event loop only.

    Args:
        settings: settings of the server; each worker process loads the network that they name.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.busy = 0
        """Number of requests that are waiting in the queue or being computed."""
        self._free_workers = asyncio.Semaphore(self.limits.num_workers)
        self._is_stopped = False
        self._pool = self._start()

    def _start(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self.limits.num_workers,
            initializer=worker_process.start,
            initargs=[self.settings],
            context=worker_context("farfield.server.worker_tasks", _IMPORTED_BY_LOADING),
        )

    @property
    def alive(self) -> bool:
        """Whether the pool accepts tasks. If any idle process dies, this is False until a request restarts the pool."""
        return bool(self._pool.active)

    @property
    def limits(self) -> Limits:
        """The server's limits."""
        return self.settings.limits

    def describe(self) -> dict[str, Any]:
        """Start the processes, wait until one is ready, and return the result of `worker_tasks.describe`.

        Raises:
            FarfieldError: if the network cannot be loaded, or a process ends while it loads.
        """
        fewer = "Use fewer processes (--limits.num_workers 1) or a smaller network."
        try:
            with out_of_memory_as_ours(fewer):
                future = schedule(self._pool, worker_process.call, ["describe", ()])
                first_done(self._pool, [future])
                return future.result()
        except (BrokenProcessPool, ProcessExpired) as error:
            raise FarfieldError(
                f"a worker process (of {self.limits.num_workers}) ended while it loaded the network, probably for "
                f"lack of memory. {fewer}"
            ) from error

    def _schedule(self, function: str, arguments: tuple[Any, ...]) -> Future:
        if self._is_stopped:
            raise Refused("The server is shutting down.", "busy", 60)
        if not self.alive:
            log.warning("an idle worker process ended; restarting the pool")
            self._end_processes()
            self._pool = self._start()
        return schedule(self._pool, worker_process.call, [function, arguments], self.limits.job_seconds)

    async def _result(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """Run a task in a worker process and return its result.

        Raises:
            BrokenProcessPool: if the pool breaks or is stopped before the task has ended.
            Refused: if the pool was stopped before this call.
            Exception: any exception of the task.
        """
        future = asyncio.wrap_future(self._schedule(function, arguments))
        pool = self._pool
        try:
            active = True
            while not (await asyncio.wait([future], timeout=1))[0]:
                if not active:
                    raise BrokenProcessPool("a worker process ended while it ran no job")
                active = pool.active
            return future.result()
        finally:
            future.cancel()  # if the client has gone

    def check_capacity(self) -> None:
        """Raise `Refused` if the queue is full."""
        limits = self.limits
        if self.busy >= limits.num_workers + limits.max_waiting:
            raise Refused(
                f"The server is busy (requests in progress: {self.busy}). Try again in a few seconds.", "busy", 5
            )

    @contextmanager
    def queued(self) -> Iterator[None]:
        """Count a request in `busy` (the number of requests in progress) until the `with` block ends.

        Raises:
            Refused: if the queue is full.
        """
        self.check_capacity()
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def run(self, name: str, function: str, *arguments: Any) -> Any:
        """Call a function of `worker_tasks` in a worker process. A process that hangs or crashes is replaced.

        Args:
            name: display name of the file, for messages.
            function: name of the function.
            arguments: arguments of the function, of plain types.

        Raises:
            Refused: if the function raises `Refused`, takes longer than the time limit or crashes its process, or if no
                process can be started. Any other exception of the function is a bug: it is logged, and raised as
                `Refused` with the reason "internal".
        """
        async with self._free_workers:
            try:
                try:
                    return await self._result(function, arguments)
                except BrokenProcessPool:  # an idle process ended, and with it the pool and its scheduled tasks: retry
                    return await self._result(function, arguments)
            except Refused:
                raise
            except BrokenProcessPool:
                log.warning("worker processes end while they load the network; try a lower --limits.num_workers")
                raise Refused("The server's worker processes fail to start. Try again later.", "busy", 60) from None
            except TimeoutError:
                message = f"{name}: it took longer than {self.limits.job_seconds:g} s. Send a shorter or smaller video."
                raise Refused(message, "time_limit") from None
            except ProcessExpired as error:
                log.warning("a worker process ended with exit code %s", error.exitcode)
                raise Refused(f"{name}: the decoder crashed.", "undecodable") from None
            except Exception as error:
                log.exception("a worker process failed because of a bug in farfield")
                message = f"{name}: the server failed; see its log. This is a bug in farfield."
                raise Refused(message, "internal") from error

    def stop(self) -> None:
        """Kill the processes, even if they are computing, and refuse further tasks."""
        self._is_stopped = True
        self._end_processes()

    def _end_processes(self) -> None:
        self._pool.stop()
        self._pool.join()
