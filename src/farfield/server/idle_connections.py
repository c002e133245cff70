"""Timeout for connections that send no request, and a limit on their number.

uvicorn waits for the headers of a request without a time limit, and counts idle connections towards
`limit_concurrency`. Without the limits in this file, a few hundred clients that send nothing would block all others.
"""

from __future__ import annotations

import asyncio
import time

from farfield.server.uvicorn_compat import HttpConnection

HEAD_SECONDS = 10.0
"""Time limit, in seconds, for the head of a request to arrive."""
MAX_CONNECTIONS = 256
"""Number of open connections at which uvicorn begins to answer requests with status 503."""
MAX_IDLE = MAX_CONNECTIONS // 2
"""Maximum number of connections without a request in progress. Each further connection closes the longest idle one."""


class TimedConnection(HttpConnection):
    """A connection that is closed if no request arrives within `HEAD_SECONDS`."""

    _idle_since = 0.0
    _timeout: asyncio.TimerHandle | None = None

    def wait_for_request(self) -> None:
        """Start the connection's time limit for the next request, and return at once.

        If more than `MAX_IDLE` connections are idle, close the one that has been idle longest.
        """
        self._idle_since = time.monotonic()
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = self.call_later(HEAD_SECONDS, self._close_if_idle)
        idle = [each for each in self.all_connections if isinstance(each, TimedConnection) and each.is_waiting]
        if len(idle) > MAX_IDLE:
            min(idle, key=lambda each: each._idle_since).close()

    def _close_if_idle(self) -> None:
        if self.is_waiting:
            self.close()
