"""The undocumented parts of uvicorn's connection class that the server depends on; no other file uses them.

uvicorn has no option that limits the time in which the headers of a request must arrive. Its `timeout_keep_alive`
applies only between requests, and stops at the first byte of a request (https://github.com/Kludex/uvicorn/issues/157).
A time limit for headers can be set only in a connection class that is passed as `Config(http=)`.
tests/server/test_uvicorn_compat.py checks that the installed uvicorn still has the parts that `HttpConnection` uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.h11_impl import H11Protocol


class HttpConnection(H11Protocol):
    """A uvicorn connection that calls `wait_for_request` whenever it begins to wait for a request."""

    def wait_for_request(self) -> None:
        """Do nothing. A subclass overrides this method to start its timeout."""

    @property
    def is_waiting(self) -> bool:
        """Whether the connection is open and has no request in progress."""
        return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

    @property
    def all_connections(self) -> list[HttpConnection]:
        """All open connections of the server, including this one."""
        return [each for each in self.connections if isinstance(each, HttpConnection)]

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Schedule a callback in the server's event loop."""
        return self.loop.call_later(seconds, callback)

    def close(self) -> None:
        """Close the connection after all data written so far has been sent."""
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.wait_for_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.wait_for_request()
