"""Connections on which no request comes are closed: after a while, and the oldest at once where there are many.

uvicorn waits for the head of a request as long as its sender likes, and counts whoever says nothing among those that
it serves at once: a few hundred of them would keep everybody out.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""Time for the whole head of a request to arrive."""
MAX_CONNECTIONS = 256
MAX_SILENT = MAX_CONNECTIONS // 2


class TimedConnection(H11Protocol):
    """uvicorn's connection, closed where it is silent."""

    _silent_since = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    @property
    def silent(self) -> bool:
        """Whether it is open, and nothing is being answered on it."""
        return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

    def _await_head(self) -> None:
        self._silent_since = self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._close_if_silent)
        silent = [each for each in self.connections if isinstance(each, TimedConnection) and each.silent]
        if len(silent) > MAX_SILENT:
            min(silent, key=lambda each: each._silent_since).transport.close()

    def _close_if_silent(self) -> None:
        if self.silent:
            self.transport.close()
