"""uvicorn's undocumented parts, by name. Where one is gone, adapt server/uvicorn_compat.py."""

from __future__ import annotations

import socket
import threading
import time
from importlib import import_module
from typing import Any

import pytest
import requests
import uvicorn

ADAPT = f"in uvicorn {uvicorn.__version__}; adapt server/uvicorn_compat.py"


@pytest.mark.parametrize("name", ["connection_made", "on_response_complete"])
def test_uvicorns_connection_class_has_the_method(name: str) -> None:
    try:
        protocol = import_module("uvicorn.protocols.http.h11_impl").H11Protocol
    except (ImportError, AttributeError) as error:
        pytest.fail(f"there is no uvicorn.protocols.http.h11_impl.H11Protocol {ADAPT}: {error}")
    assert callable(getattr(protocol, name, None)), f"H11Protocol has no {name} {ADAPT}"


def test_a_connection_tells_when_it_waits_for_a_request() -> None:
    from farfield.server.uvicorn_compat import HttpConnection

    states: list[tuple[str, bool, int]] = []
    connections: list[HttpConnection] = []

    class Recorded(HttpConnection):
        def wait_for_request(self) -> None:
            connections.append(self)
            states.append(("waits", self.is_waiting, len(self.all_connections)))
            self.call_later(0, lambda: states.append(("called later", True, 1)))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            states.append(("answers", connections[-1].is_waiting, len(connections[-1].all_connections)))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, http=Recorded, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with requests.Session() as session:
                assert session.get(f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout=10).text == "ok"
                assert connections[0] is connections[-1]
                connections[0].loop.call_soon_threadsafe(connections[0].close)
                end = time.monotonic() + 5
                while connections[0].all_connections and time.monotonic() < end:
                    time.sleep(0.01)
                assert connections[0].all_connections == []
                assert not connections[0].is_waiting
        finally:
            server.should_exit = True
            thread.join(30)
    events = [state for state in states if state[0] != "called later"]
    assert events == [("waits", True, 1), ("answers", False, 1), ("waits", True, 1)], f"connections differ {ADAPT}"
    assert ("called later", True, 1) in states
