"""ASGI `receive` that limits the size and arrival time of a request's body, and `send` that adds security headers."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Send

from farfield.server.limits import format_bytes
from farfield.server.refusals import Refused

DRAIN_SECONDS = 2.0
"""Seconds to continue reading a refused body. Many clients read the response only after sending the whole body."""
_HEADERS = {
    # The page loads nothing from other origins, and no other origin may embed it in a frame.
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class LimitedBody:
    """ASGI `receive` that reports a disconnect when the body exceeds its size or time limit.

    Args:
        receive: the server's `receive`.
        max_bytes: maximum size of the body.
        seconds: maximum time for the whole body to arrive, counted from the creation of this object.

    Attributes:
        promised: number of bytes reserved for the upload. This is the announced size of the body, or the limit for
            uploads if the announced size is larger or missing. 0 if the request is not an upload.
        count: number of bytes received so far.
        ended: whether the whole body has been received.
        refused: why the request is refused; the rest of its body is then not passed on. None if it is not refused.
    """

    def __init__(self, receive: Receive, max_bytes: int, seconds: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._replay: bytes | None = None
        self.promised = 0
        self.count = 0
        self.ended = False
        self.refused: Refused | None = None

    @property
    def missing(self) -> int:
        """Number of reserved bytes (`promised`) that have not arrived yet."""
        return max(self.promised - self.count, 0)

    async def __call__(self) -> Message:
        if self._replay is not None:
            message: Message = {"type": "http.request", "body": self._replay, "more_body": False}
            self._replay = None
            return message
        if self.refused is not None:
            return {"type": "http.disconnect"}
        if self.ended:  # only a disconnect can follow, and there is no deadline for it
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.refused = Refused(
                f"The request took longer than {self._seconds:g} s to arrive. Send a smaller file.", "slow_upload"
            )
            return {"type": "http.disconnect"}
        self.count += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        if self.count > self._max_bytes:
            self.refused = too_large(self._max_bytes)
            return {"type": "http.disconnect"}
        return message

    async def read_all(self) -> bytes:
        """Receive the whole body.

        Raises:
            Refused: if the body exceeds a limit.
            ClientDisconnect: if the client disconnects.
        """
        parts = []
        while not self.ended:
            message = await self()
            if message["type"] == "http.disconnect":
                raise self.refused or ClientDisconnect
            parts.append(message.get("body", b""))
        return b"".join(parts)

    def replay(self, body: bytes) -> None:
        """Make the next call of this object return `body`, which has been received already."""
        self._replay = body

    async def drain(self) -> None:
        """Read and discard the rest of a refused body, for at most `DRAIN_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.ended:
                    message = await self._receive()
                    self.ended = not message.get("more_body", False)


class HeaderAddingSend:
    """ASGI `send` that adds security headers, and discards the app's response if the request's body was refused."""

    def __init__(self, send: Send, body: LimitedBody) -> None:
        self._send = send
        self._body = body
        self.started = False

    async def __call__(self, message: Message) -> None:
        if self._body.refused is None or self.started:
            await self.send(message)

    async def send(self, message: Message) -> None:
        """Send a message of a response, even if the body was refused.

        The server's own response to a refused request is sent by this method, without the check in `__call__`.
        """
        if message["type"] == "http.response.start":
            self.started = True
            MutableHeaders(raw=message.setdefault("headers", [])).update(_HEADERS)
        await self._send(message)


def too_large(max_bytes: int) -> Refused:
    """Return the refusal for a request with a body larger than `max_bytes`."""
    limit = format_bytes(max_bytes - max_bytes % 2**20 or max_bytes)
    return Refused(f"The request is larger than the limit of {limit}. Send a smaller request.", "too_large")
