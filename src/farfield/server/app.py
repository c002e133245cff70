"""Build the server's application (`build_app`) and run it (`serve`)."""

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
from farfield.server.gradio_compat import enable_upload_check, poll_less_often
from farfield.server.http_api import add_routes
from farfield.server.idle_connections import MAX_CONNECTIONS, TimedConnection
from farfield.server.limits import ServerSettings
from farfield.server.middleware import RequestFilter, host_name
from farfield.server.private_folder import PrivateFolder
from farfield.server.worker_pool import WorkerPool

GRADIO_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",  # mount_gradio_app's own option is missing in our oldest supported Gradio
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SHARE": "False",
}


def serve(settings: ServerSettings, *, host: str = "127.0.0.1", port: int = 7860, names: Collection[str] = ()) -> None:
    """Print the server's URL to standard output, and serve the page and the HTTP API until interrupted.

    Args:
        settings: network, its inference settings, and limits.
        host: address to listen on; 0.0.0.0 for all interfaces of this machine.
        port: port to listen on; 0 for any free port.
        names: host names of a reverse proxy in front of the server.

    Raises:
        FarfieldError: for an invalid host name, an address that is not available, or a network that cannot be loaded.
    """
    _clean_up_on_signals()
    for name in names:
        if not name or host_name(name) != name.lower():
            raise FarfieldError(
                f"{name!r} is not a host name. Give it without scheme and port, for example video.example.org."
            )
    listening = _listen(host, port)
    address, port = listening.getsockname()[:2]
    app = build_app(settings, hosts=own_host_names(host, address), names=frozenset(name.lower() for name in names))
    print(
        f"farfield serve: http://{f'[{address}]' if ':' in address else address}:{port}  (Ctrl-C stops it)", flush=True
    )
    build_server(app).run(sockets=[listening])


def build_server(app: RequestFilter) -> uvicorn.Server:
    """Build the uvicorn server that runs an application."""
    config = uvicorn.Config(
        app,
        http=TimedConnection,
        log_level="warning",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=2,  # otherwise the page's open event stream keeps the server running
    )
    return uvicorn.Server(config)


def _clean_up_on_signals() -> None:
    """Make SIGTERM, and SIGHUP unless it is ignored, run the process's cleanup code before the process ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores SIGHUP
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))  # uvicorn handles SIGTERM only


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FarfieldError(f"cannot listen on {host}:{port}: {reason}. Choose another --host or --port.") from error
    return listening


def own_host_names(host: str, address: str) -> frozenset[str] | None:
    """Return the host names that reach a server on the loopback interface.

    Return None, which stands for any name, for a server on another interface.

    Args:
        host: host name or address as the user gave it.
        address: IP address that the server listens on.
    """
    if not ipaddress.ip_address(address).is_loopback:
        return None
    return frozenset([host.lower(), address, "localhost", "127.0.0.1", "::1"])


def build_app(
    settings: ServerSettings,
    *,
    page: bool = True,
    hosts: frozenset[str] | None = None,
    names: frozenset[str] = frozenset(),
) -> RequestFilter:
    """Build the server as an ASGI application.

    When the application shuts down, it ends the worker processes, which run the network, and deletes the server's
    private temporary folder, which holds the uploads.

    Args:
        settings: network, its inference settings, and limits.
        page: whether to serve the web page in addition to the HTTP API.
        hosts: host names that the server answers to, see `RequestFilter`.
        names: host names of a reverse proxy, see `RequestFilter`.

    Raises:
        FarfieldError: for a network that cannot be loaded.
    """
    folder = PrivateFolder()
    workers = WorkerPool(settings)
    try:
        description = workers.describe()
        app = FastAPI(lifespan=_lifespan(workers, folder), docs_url=None, redoc_url=None, openapi_url=None)
        add_routes(app, workers, folder, description)
        if page:
            _mount_page(app, workers, folder, description)
    except BaseException:
        workers.stop()
        folder.remove()
        raise
    return RequestFilter(app, folder, settings.limits, hosts, names)


def _mount_page(app: FastAPI, workers: WorkerPool, folder: PrivateFolder, description: dict[str, Any]) -> None:
    places = {"GRADIO_TEMP_DIR": str(folder.path / "page"), "GRADIO_EXAMPLES_CACHE": str(folder.path / "examples")}
    os.environ.update({**GRADIO_ENVIRONMENT, **places})  # Gradio reads them when it is imported
    import gradio as gr

    from farfield.server.web_page import PAGE_OPTIONS, build_page

    page = build_page(workers, folder, description)
    gr.mount_gradio_app(app, page, path="/", max_file_size=workers.limits.upload_bytes, **PAGE_OPTIONS)
    enable_upload_check(page)
    poll_less_often(page)


def _lifespan(workers: WorkerPool, folder: PrivateFolder) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        cleaning = asyncio.create_task(_delete_expired_files(folder, workers.limits.keep_seconds))
        try:
            yield
        finally:
            cleaning.cancel()
            await asyncio.to_thread(workers.stop)
            folder.remove()

    return lifespan


async def _delete_expired_files(folder: PrivateFolder, keep_seconds: float) -> None:
    while True:
        await asyncio.sleep(min(keep_seconds / 4, 30))
        await asyncio.to_thread(folder.delete_expired, keep_seconds)
