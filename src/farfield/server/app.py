"""Puts the server together, and runs it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from farfield.errors import FarfieldError
from farfield.server.http_api import add_routes
from farfield.server.idle_connections import MAX_CONNECTIONS, TimedConnection
from farfield.server.limits import Setting
from farfield.server.middleware import Middleware, host_name
from farfield.server.private_folder import PrivateFolder
from farfield.server.worker_pool import Workers

GRADIO_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SHARE": "False",
}


def serve(setting: Setting, *, host: str = "127.0.0.1", port: int = 7860, names: Collection[str] = ()) -> None:
    """Serves the page and plain HTTP until interrupted. Says on standard output where.

    Args:
        setting: network and limits.
        host: the address to listen on; 0.0.0.0 for all of this machine's.
        port: 0 for any that is free.
        names: of a proxy in front of it, by which browsers know the server.

    Raises:
        FarfieldError: for a name that is none, an address that cannot be listened on, a network that cannot be loaded.
    """
    _clean_up_when_told_to_end()
    for name in names:
        if not name or host_name(name) != name.lower():
            raise FarfieldError(f"{name!r} is no name of a server. Give it alone, as video.example.org.")
    listening = _listen(host, port)
    address, port = listening.getsockname()[:2]
    app = build_app(setting, hosts=own_names(host, address), names=frozenset(name.lower() for name in names))
    print(
        f"farfield serve: http://{f'[{address}]' if ':' in address else address}:{port}  (Ctrl-C ends it)", flush=True
    )
    server_of(app).run(sockets=[listening])


def server_of(app: Middleware) -> uvicorn.Server:
    """What speaks HTTP for an application."""
    config = uvicorn.Config(
        app,
        http=TimedConnection,
        log_level="warning",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=2,  # a page's stream of news has no end of its own
    )
    return uvicorn.Server(config)


def _clean_up_when_told_to_end() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of what cleans up
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))  # uvicorn knows that one


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except (OSError, OverflowError) as error:
        raise FarfieldError(
            f"{host}:{port} cannot be listened on: {error}. Choose another --host or --port."
        ) from error
    return listening


def own_names(host: str, address: str) -> frozenset[str] | None:
    """The names that a server may be called by: None, for any, unless it is this machine alone that hears.

    Args:
        host: as it was given: a name, or an address in any spelling.
        address: that is listened on.
    """
    if not ipaddress.ip_address(address).is_loopback:
        return None
    return frozenset([host.lower(), address, "localhost", "127.0.0.1", "::1"])


def build_app(
    setting: Setting,
    *,
    page: bool = True,
    hosts: frozenset[str] | None = None,
    names: frozenset[str] = frozenset(),
) -> Middleware:
    """The server as an ASGI application. Its processes and its folder end with its lifespan.

    Args:
        setting: network and limits.
        page: whether there is a page besides plain HTTP.
        hosts: see `Middleware`.
        names: see `Middleware`.

    Raises:
        FarfieldError: for a network that cannot be loaded.
    """
    folder = PrivateFolder()
    workers = Workers(setting)
    try:
        about = workers.describe()
        app = FastAPI(lifespan=_lifespan(workers, folder), docs_url=None, redoc_url=None, openapi_url=None)
        add_routes(app, workers, folder, about)
        if page:
            _mount_page(app, workers, folder, about)
    except BaseException:
        workers.stop()
        folder.remove()
        raise
    return Middleware(app, folder, setting.limits, hosts, names)


def _mount_page(app: FastAPI, workers: Workers, folder: PrivateFolder, about: dict[str, Any]) -> None:
    places = {"GRADIO_TEMP_DIR": str(folder.path / "page"), "GRADIO_EXAMPLES_CACHE": str(folder.path / "examples")}
    os.environ.update({**GRADIO_ENVIRONMENT, **places})  # read when Gradio is imported
    import gradio as gr

    from farfield.server.web_page import PAGE_OPTIONS, build_page

    page = build_page(workers, folder, about)
    gr.mount_gradio_app(app, page, path="/", max_file_size=workers.limits.upload_bytes, **PAGE_OPTIONS)
    page.has_launched = True  # without it, Gradio does not check that files in events are ones that were sent to it


def _lifespan(workers: Workers, folder: PrivateFolder) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(folder, workers.limits.keep_seconds))
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.to_thread(workers.stop)
            folder.remove()

    return lifespan


async def _sweep(folder: PrivateFolder, keep_seconds: float) -> None:
    while True:
        await asyncio.sleep(min(keep_seconds / 4, 30))
        await asyncio.to_thread(folder.sweep, keep_seconds)
