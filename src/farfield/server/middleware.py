"""What stands before the whole server: who may ask, for what, and how much may be sent.

Gradio has routes that this page does not use (it fetches addresses for whoever asks, and edits recordings), and an
application that is mounted, as here, does not check the paths that a browser sends. So only what the page needs is let
through, and a path has to lie in the server's own folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farfield.server.limits import Limits, Refused, as_size
from farfield.server.private_folder import PrivateFolder
from farfield.untrusted_json import JsonError, parse_json

UPLOADS = ("/predict", "/gradio_api/upload")
EVENT = "/gradio_api/queue/join"
_POSTS = {*UPLOADS, EVENT, "/gradio_api/cancel", "/gradio_api/reset"}
_GETS = {
    "/",
    "/health",
    "/config",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
    "/theme.css",
    "/gradio_api/app_id",
    "/gradio_api/info",
    "/gradio_api/queue/data",
    "/gradio_api/startup-events",
    "/gradio_api/theme.css",
    "/gradio_api/upload_progress",
}
_GET_FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
_FILES = "/gradio_api/file="
_EVENT_BYTES = 256 * 2**10
FORM_BYTES = 16 * 2**10
"""What a form may take around its file."""
MAX_ARRIVING = 64
"""Files that may arrive at once."""
LINGER_SECONDS = 2.0
"""How long a body that is refused is still read: many clients look for the answer only when they have sent all."""
_HEADERS = {
    # Nothing from elsewhere is loaded, and nobody else's page holds this one in a frame.
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Middleware:
    """An ASGI application around another.

    Args:
        app: what is let through to.
        folder: where paths in a browser's events must lie.
        limits: see there.
        hosts: names by which the server may be called; None for any. Bound to this machine alone, it knows its names,
            and another name means that a page from elsewhere has had its own name resolved to this machine.
        names: by which browsers know a proxy in front of the server: their pages may send, too.
    """

    def __init__(
        self,
        app: ASGIApp,
        folder: PrivateFolder,
        limits: Limits,
        hosts: frozenset[str] | None,
        names: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._folder = folder
        self._limits = limits
        self._hosts = None if hosts is None else hosts | names
        self._names = names
        self._arriving: set[_Body] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # a web socket, which is refused so
        headers = Headers(scope=scope)
        body = _Body(receive, self._bound(scope["path"]), self._limits.upload_seconds)
        answer = _Answer(send, body)
        try:
            self._check(scope, headers)
            if scope["path"] in UPLOADS:
                self._make_room(body, headers)
            if scope["path"] == EVENT:
                body.replay(self._checked_event(await body.whole()))
            await self._app(scope, body, answer)
        except Refused as refused:
            body.refused = refused
        except ClientDisconnect:
            pass
        except Exception:
            if body.refused is None:  # else it is the consequence of that
                raise
        finally:
            self._arriving.discard(body)
        if body.refused is not None and not answer.started:
            if "expect" not in headers:  # who waits for a go-ahead has sent nothing
                await body.linger()
            await refusal(body.refused, plain=scope["path"].startswith("/gradio_api"))(scope, receive, answer.send)
        return None

    def _bound(self, path: str) -> int:
        return self._limits.upload_bytes + FORM_BYTES if path in UPLOADS else _EVENT_BYTES

    def _check(self, scope: Scope, headers: Headers) -> None:
        method, path, host = scope["method"], scope["path"], headers.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            raise Refused(
                f"This server answers only to its own names: {names}. A proxy's is given with farfield serve --names.",
                "forbidden",
            )
        if method in ("GET", "HEAD"):
            known = path in _GETS or path.startswith(_GET_FOLDERS)
            known = known or (path.startswith(_FILES) and self._folder.holds(path.removeprefix(_FILES)))
        else:
            known = method == "POST" and path in _POSTS
            origin = headers.get("origin")
            if origin is not None and not self._is_ours(origin.lower(), host.lower()):
                raise Refused("A page from elsewhere may not send here.", "forbidden")
        if not known:
            raise Refused("There is nothing here. Known: POST /predict, GET /health, and the page at /.", "not_found")
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > 15 or int(length) > self._bound(path)):
            raise _too_large(self._bound(path))

    def _make_room(self, body: _Body, headers: Headers) -> None:
        """Counts what has yet to arrive of all files as if it were there: nobody waits for another's to be whole."""
        arriving = [each for each in self._arriving if not each.ended]
        if len(arriving) >= MAX_ARRIVING:
            raise Refused("The server receives too many files at present. Try again in a while.", "busy", 5)
        length = headers.get("content-length", "")
        body.promised = min(int(length) if length.isdecimal() else self._limits.upload_bytes, self._limits.upload_bytes)
        taken = self._folder.size() + sum(max(each.promised - each.count, 0) for each in arriving)
        if taken + body.promised > self._limits.kept_bytes:
            seconds = round(self._limits.keep_seconds)
            raise Refused("The server keeps too many clips at present. Try again later.", "busy", seconds)
        self._arriving.add(body)

    def _is_ours(self, origin: str, host: str) -> bool:
        scheme, _, place = origin.partition("://")
        return scheme in ("http", "https") and (place == host or host_name(place) in self._names)

    def _checked_event(self, body: bytes) -> bytes:
        try:
            paths = list(_paths(parse_json(body)))
        except JsonError as error:
            raise Refused(f"The event is malformed: {error}.", "malformed") from error
        if not all(isinstance(path, str) and self._folder.holds(path) for path in paths):
            raise Refused("Only a file that was sent to this server may be looked at.", "forbidden")
        return body


def _paths(value: Any) -> Iterator[Any]:
    """Whatever Gradio may take for a file in an event: each "path", at any depth."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _paths(each)


def host_name(host: str) -> str | None:
    """The name in a Host header, in lower case and without its port; None where there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _too_large(bound: int) -> Refused:
    return Refused(f"The request is larger than {as_size(bound - bound % 2**20 or bound)}. Send less.", "too_large")


def refusal(refused: Refused, *, plain: bool = False) -> Response:
    """The answer to a request that is refused: JSON, or plain text where Gradio shows it as it comes."""
    headers = {"connection": "close"}
    if refused.retry_seconds is not None:
        headers["retry-after"] = str(refused.retry_seconds)
    if plain:
        return PlainTextResponse(str(refused), refused.status, headers)
    return JSONResponse({"error": str(refused), "reason": refused.reason}, refused.status, headers)


class _Body:
    """A request's body on its way to the application. Beyond a bound, the sender seems to have hung up.

    Attributes:
        promised: how much is to come of a file.
        count: how much has come.
        ended: whether that was all.
        refused: why no more is passed on.
    """

    def __init__(self, receive: Receive, bound: int, seconds: float) -> None:
        self._receive = receive
        self._bound = bound
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self.promised = 0
        self.count = 0
        self.ended = False
        self._again: bytes | None = None
        self.refused: Refused | None = None

    async def __call__(self) -> Message:
        if self._again is not None:
            message: Message = {"type": "http.request", "body": self._again, "more_body": False}
            self._again = None
            return message
        if self.refused is not None:
            return {"type": "http.disconnect"}
        if self.ended:  # what comes now is the sender's hanging up, whenever that is
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.refused = Refused(f"The request took longer than {self._seconds:g} s to arrive.", "slow_upload")
            return {"type": "http.disconnect"}
        self.count += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        if self.count > self._bound:
            self.refused = _too_large(self._bound)
            return {"type": "http.disconnect"}
        return message

    async def whole(self) -> bytes:
        parts = []
        while not self.ended:
            message = await self()
            if message["type"] == "http.disconnect":
                raise self.refused or ClientDisconnect
            parts.append(message.get("body", b""))
        return b"".join(parts)

    def replay(self, body: bytes) -> None:
        self._again = body

    async def linger(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.ended:
                    message = await self._receive()
                    self.ended = not message.get("more_body", False)


class _Answer:
    """An application's answer on its way out, with our headers; none where the body was refused."""

    def __init__(self, send: Send, body: _Body) -> None:
        self._send = send
        self._body = body
        self.started = False

    async def __call__(self, message: Message) -> None:
        if self._body.refused is None or self.started:
            await self.send(message)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            MutableHeaders(raw=message.setdefault("headers", [])).update(_HEADERS)
        await self._send(message)
