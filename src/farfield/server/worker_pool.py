"""Processes that compute, fewer than there may be requests, and each for a limited time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from pebble import ProcessExpired, ProcessPool

from farfield.errors import FarfieldError
from farfield.server import worker_process
from farfield.server.limits import Limits, Refused, Setting

_log = logging.getLogger(__name__)


class Workers:
    """The one queue in front of the processes: page and programs stand in it alike.

    It belongs to one event loop, in which all is called.

    Args:
        setting: what the processes start with.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.busy = 0
        """Requests that wait or are computed."""
        self._slots = asyncio.Semaphore(self.limits.num_workers)
        # Not forked: a process that replaces a crashed one would inherit locks that other threads hold.
        self._pool = self._start()

    def _start(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self.limits.num_workers,
            initializer=worker_process.start,
            initargs=[self.setting],
            context=get_context("spawn"),
        )

    @property
    def alive(self) -> bool:
        """Whether processes take jobs. A process that dies while it has none ends its pool, until the next request."""
        return bool(self._pool.active)

    @property
    def limits(self) -> Limits:
        return self.setting.limits

    def describe(self) -> dict[str, Any]:
        """Starts the processes, waits for the first, and returns what `worker.describe` does.

        Raises:
            FarfieldError: where the network cannot be loaded, or a process ends while it loads.
        """
        try:
            return self._pool.schedule(worker_process.call, args=["describe", ()]).result()
        except (BrokenProcessPool, ProcessExpired) as error:
            raise FarfieldError(
                f"one of {self.limits.num_workers} processes ended while it loaded the network, probably for memory. "
                "Give fewer, as --limits.num_workers 1, or a smaller network."
            ) from error

    def _schedule(self, function: str, arguments: tuple[Any, ...]) -> Future:
        if not self.alive:
            _log.warning("a process ended that had nothing to do; others are started")
            self.stop()
            self._pool = self._start()
        return self._pool.schedule(worker_process.call, args=[function, arguments], timeout=self.limits.job_seconds)

    def must_have_a_place(self) -> None:
        """Tells who would find the queue full.

        Raises:
            Refused: where there is no place left.
        """
        limits = self.limits
        if self.busy >= limits.num_workers + limits.max_waiting:
            raise Refused(
                f"The server is busy: {self.busy} requests are before this one. Try again in a while.", "busy", 5
            )

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place among the requests that are computed or wait.

        Raises:
            Refused: where there is none left.
        """
        self.must_have_a_place()
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def run(self, name: str, function: str, *arguments: Any) -> Any:
        """Calls a function of `worker` in a process. A process that hangs or crashes is replaced.

        Args:
            name: what the sender calls the file, for messages.
            function: its name.
            arguments: plain types.

        Raises:
            Refused: where the function raises it, takes too long, or ends the process, or processes end as they start.
                Anything else is a defect; it goes to the log, and is refused as that.
        """
        async with self._slots:
            try:
                try:
                    return await asyncio.wrap_future(self._schedule(function, arguments))
                except BrokenProcessPool:  # a process ended that had no job, and took along those that none had begun
                    return await asyncio.wrap_future(self._schedule(function, arguments))
            except Refused:
                raise
            except BrokenProcessPool:
                _log.warning("processes end while they load the network, probably for memory: --limits.num_workers")
                raise Refused("The server's processes end as they start. Try again later.", "busy", 60) from None
            except TimeoutError:
                message = f"{name}: it took longer than {self.limits.job_seconds:g} s. Send a shorter or smaller clip."
                raise Refused(message, "time_limit") from None
            except ProcessExpired as error:
                _log.warning("a process ended with exit code %s", error.exitcode)
                raise Refused(f"{name}: the decoder crashed.", "undecodable") from None
            except Exception as error:
                _log.exception("a defect of farfield")
                message = f"{name}: the server failed; its log says why. This is a defect of farfield."
                raise Refused(message, "internal") from error

    def stop(self) -> None:
        """Ends the processes, whatever they do."""
        self._pool.stop()
        self._pool.join()
