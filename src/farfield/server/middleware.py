"""Middleware in front of the whole server. It checks the host, origin, route, file paths and size of each request.

Gradio has routes that the server's page does not use, such as routes that fetch URLs for a client or edit uploads. A
mounted Gradio app also does not check the file paths in a client's events. The middleware lets through only the routes
that the page needs, and refuses file paths outside of the server's private folder.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from farfield.server import gradio_compat
from farfield.server.limited_body import HeaderAddingSend, LimitedBody, too_large
from farfield.server.limits import Limits
from farfield.server.private_folder import PrivateFolder
from farfield.server.refusals import Refused
from farfield.untrusted_json import JsonError, parse_json

UPLOAD_ROUTES = frozenset({"/predict", gradio_compat.UPLOAD_ROUTE})
POST_ROUTES = UPLOAD_ROUTES | gradio_compat.POST_ROUTES
GET_ROUTES = gradio_compat.GET_ROUTES | {"/health"}
EVENT_BYTES = 256 * 2**10
"""Maximum size of the body of a request that is not an upload."""
FORM_BYTES = 16 * 2**10
"""Bytes allowed for the parts of an upload form other than its file."""
MAX_UPLOADS = 64
"""Maximum number of uploads in progress at once."""


class RequestFilter:
    """ASGI middleware that refuses requests that are not allowed, and limits the size and arrival time of allowed ones.

    Args:
        app: the application to protect.
        folder: the server's private folder. Events that a client sends to Gradio may name only files in this folder,
            and of these only files that the page may show.
        limits: limits on sizes and times.
        hosts: host names that the server answers to; None for any. They must be given for a server on the loopback
            interface: another name in the Host header is a sign of DNS rebinding, an attack in which a foreign web page
            reads from a local server.
        names: host names of a reverse proxy in front of the server. Requests to these names, and from pages that were
            loaded from these names, are accepted, too.
    """

    def __init__(
        self,
        app: ASGIApp,
        folder: PrivateFolder,
        limits: Limits,
        hosts: frozenset[str] | None,
        names: frozenset[str] = frozenset(),
    ) -> None:
        self.folder = folder
        self._app = app
        self._limits = limits
        self._hosts = None if hosts is None else hosts | names
        self._names = names
        self._uploads: set[LimitedBody] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # returning without a response rejects a WebSocket
        headers = Headers(scope=scope)
        body = LimitedBody(receive, self._max_bytes(scope["path"]), self._limits.upload_seconds)
        response = HeaderAddingSend(send, body)
        try:
            self._check_access(scope, headers)
            if scope["path"] in UPLOAD_ROUTES:
                self._reserve_space(body, headers)
            if scope["path"] == gradio_compat.EVENT_ROUTE:
                body.replay(self._checked_event(await body.read_all()))
            await self._app(scope, body, response)
        except Refused as refused:
            body.refused = refused
        except ClientDisconnect:
            pass
        except Exception:
            if body.refused is None:  # otherwise the app failed because the body was cut off
                raise
        finally:
            self._uploads.discard(body)
        if body.refused is not None and not response.started:
            if "expect" not in headers:  # a client that waits for "100 Continue" has not sent its body
                await body.drain()
            answer = refusal_response(body.refused, plain=scope["path"].startswith("/gradio_api"))
            await answer(scope, receive, response.send)
        return None

    def _max_bytes(self, path: str) -> int:
        return self._limits.upload_bytes + FORM_BYTES if path in UPLOAD_ROUTES else EVENT_BYTES

    def _check_access(self, scope: Scope, headers: Headers) -> None:
        """Refuse a request whose host, origin, route or announced size is not allowed."""
        method, path, host = scope["method"], scope["path"], headers.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            raise Refused(
                f"This server answers only to these host names: {names}. If it is behind a proxy, give the proxy's "
                "host name with farfield serve --names.",
                "forbidden",
            )
        if method in ("GET", "HEAD"):
            known = path in GET_ROUTES or path.startswith(gradio_compat.GET_FOLDERS) or self._is_shown_file(path)
        else:
            known = method == "POST" and path in POST_ROUTES
            origin = headers.get("origin")
            if origin is not None and not self._is_own_origin(origin.lower(), host.lower()):
                raise Refused(
                    "Requests from pages of another origin are not accepted. If the server is behind a proxy, give "
                    "the proxy's host name with farfield serve --names.",
                    "forbidden",
                )
        if not known:
            raise Refused("Not found. The server has POST /predict, GET /health, and the page at /.", "not_found")
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > 15 or int(length) > self._max_bytes(path)):
            raise too_large(self._max_bytes(path))

    def _is_shown_file(self, path: str) -> bool:
        file = path.removeprefix(gradio_compat.FILE_ROUTE)
        return path.startswith(gradio_compat.FILE_ROUTE) and self.folder.shows(file)

    def _is_own_origin(self, origin: str, host: str) -> bool:
        scheme, _, place = origin.partition("://")
        return scheme in ("http", "https") and (place == host or host_name(place) in self._names)

    def _reserve_space(self, body: LimitedBody, headers: Headers) -> None:
        """Reserve disk space for an upload.

        The bytes that uploads in progress have reserved, but not yet sent, count as used space.

        Raises:
            Refused: if too little space is free, or if too many uploads are in progress.
        """
        uploads = [each for each in self._uploads if not each.ended]
        if len(uploads) >= MAX_UPLOADS:
            raise Refused("Too many uploads are in progress. Try again in a few seconds.", "busy", 5)
        length = headers.get("content-length", "")
        body.promised = min(int(length) if length.isdecimal() else self._limits.upload_bytes, self._limits.upload_bytes)
        taken = self.folder.size() + sum(each.missing for each in uploads)
        if taken + body.promised > self._limits.kept_bytes:
            seconds = round(self._limits.keep_seconds)
            raise Refused("The server's disk space for videos is full. Try again later.", "busy", seconds)
        self._uploads.add(body)

    def _checked_event(self, body: bytes) -> bytes:
        """Return the body of a Gradio event; raise `Refused` if the event names a file that the page may not show."""
        try:
            paths = list(gradio_compat.file_paths(parse_json(body)))
        except JsonError as error:
            raise Refused(f"The event is malformed: {error}.", "malformed") from error
        if not all(isinstance(path, str) and self.folder.shows(path) for path in paths):
            raise Refused("The event refers to a file that was not uploaded to this server.", "forbidden")
        return body


def host_name(host: str) -> str | None:
    """Return the host name in a Host header, in lower case and without the port; None if the header has no name."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def refusal_response(refused: Refused, *, plain: bool = False) -> Response:
    """Build the response to a refused request.

    Args:
        refused: the refusal.
        plain: whether to send plain text instead of JSON. Gradio's page shows plain text unchanged.
    """
    headers = {"connection": "close"}
    if refused.retry_seconds is not None:
        headers["retry-after"] = str(refused.retry_seconds)
    if plain:
        return PlainTextResponse(str(refused), refused.status, headers)
    return JSONResponse({"error": str(refused), "reason": refused.reason}, refused.status, headers)
