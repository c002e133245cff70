"""The undocumented parts of uvicorn's connection class that the server depends on; no other file uses them.

uvicorn has no option that limits the time for the head of a request: `timeout_keep_alive` counts only between requests,
and one byte ends it (https://github.com/Kludex/uvicorn/issues/157). A class of our own for `Config(http=)` is the only
place where such a limit can be set. tests/server/test_uvicorn_compat.py checks what it relies on by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.h11_impl import H11Protocol


class HttpConnection(H11Protocol):
    """A connection of uvicorn's server that calls `wait_for_request` whenever it begins to wait for one."""

    def wait_for_request(self) -> None:
        """Do nothing; a subclass starts its timeout here."""

    @property
    def is_waiting(self) -> bool:
        """Whether the connection is open and no request is being answered on it."""
        return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

    @property
    def all_connections(self) -> list[HttpConnection]:
        """All open connections of the server, this one among them."""
        return [each for each in self.connections if isinstance(each, HttpConnection)]

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Schedule a callback in the server's event loop."""
        return self.loop.call_later(seconds, callback)

    def close(self) -> None:
        """Close the connection after what has been written is sent."""
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.wait_for_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.wait_for_request()
