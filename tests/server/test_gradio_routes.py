"""Gradio's routes: only the page's own files are served or read, and no address is fetched.

The guard is for requests that name other files of the machine. Marker files stand for these: no answer may hold their
text.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from farfield.untrusted_json import MAX_LEVELS
from server.conftest import Served


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file outside of the server's folder."""
    path = tmp_path / "marker.mp4"
    path.write_text("text of the marker")
    return path


def test_only_the_pages_files_are_served(server: Served, marker: Path, checkpoint: Path) -> None:
    held = server.folder / "incoming" / "a.mp4"
    held.write_bytes(b"text of the marker")
    way = os.path.relpath(marker, server.folder)
    paths = [
        str(marker),
        str(checkpoint),
        way,
        way.replace("/", "%2f"),
        f"{server.folder}/{way}",
        f"{server.folder}/../log",
        f"{server.folder}/page/../../log",
        str(held),
        "pyproject.toml",
        "http://127.0.0.1:1/a",
        "https://example.com/a",
        f"file://{marker}",
    ]
    try:
        for path in paths:
            session = requests.Session()
            request = requests.Request("GET", server.url).prepare()
            request.url = f"{server.url}/gradio_api/file={path}"  # set here because requests would resolve the dots
            answer = session.send(request, timeout=10)
            assert answer.status_code == 404, path
            assert "text of the marker" not in answer.text
    finally:
        held.unlink()


def test_an_uploaded_file_is_served_back(server: Served) -> None:
    sent = requests.post(f"{server.url}/gradio_api/upload", files={"files": ("a.mp4", b"12345")}, timeout=10)
    (path,) = sent.json()
    assert Path(path).is_relative_to(server.folder / "page")
    assert requests.get(f"{server.url}/gradio_api/file={path}", timeout=10).content == b"12345"
    for name in ("../../../a.mp4", "/folder/a.mp4"):
        sent = requests.post(f"{server.url}/gradio_api/upload", files={"files": (name, b"1")}, timeout=10)
        assert all(Path(each).is_relative_to(server.folder / "page") for each in sent.json())
        assert not any(".." in each for each in sent.json())


def test_the_pages_uploads_are_limited(server: Served) -> None:
    answer = requests.post(
        f"{server.url}/gradio_api/upload", files={"files": ("a.mp4", b"1" * (4 * 2**20))}, timeout=20
    )
    assert (answer.status_code, answer.text) == (
        413,
        "The request is larger than the limit of 3 MiB. Send a smaller request.",
    )


def event(server: Served, value: Any) -> requests.Response:
    body = {"data": [value], "fn_index": 0, "session_hash": "abc"}
    return requests.post(f"{server.url}/gradio_api/queue/join", json=body, timeout=10)


def test_an_event_may_name_uploaded_files_only(server: Served, marker: Path) -> None:
    before = server.health()
    kind = {"_type": "gradio.FileData"}
    for path in (
        str(marker),
        os.path.relpath(marker),
        f"{server.folder}/{os.path.relpath(marker, server.folder)}",
        "http://127.0.0.1:1/a.mp4",
        f"{server.folder}/../log",
        7,
    ):
        for value in ({"path": path, "meta": kind}, {"video": {"path": path, "meta": kind, "is_stream": True}}):
            answer = event(server, value)
            assert answer.status_code == 403, path
            assert answer.text == "The event refers to a file that was not uploaded to this server."
    too_deep = "[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1)
    assert event(server, too_deep).status_code == 200  # as a text, it is allowed
    cases = ((too_deep, "it is nested more than 100 levels deep"), ("{", "it is not JSON (line 1, column 2)"))
    for body, reason in cases:
        answer = requests.post(f"{server.url}/gradio_api/queue/join", data=body, timeout=10)
        assert (answer.status_code, answer.text) == (400, f"The event is malformed: {reason}.")
    assert event(server, "x" * 300_000).status_code == 413
    assert [path for path in server.folder.rglob("*") if path.name.startswith("marker")] == []
    assert server.health()["status"] == before["status"]


@pytest.mark.parametrize(
    "path",
    [
        "proxy=https://example.com",
        "file/folder/marker.mp4",
        "custom_component/1/a/b/c",
        "deep_link",
        "runs",
        "vibe-code",
        "call/x",
    ],
)
def test_unused_routes_are_closed(server: Served, path: str) -> None:
    assert requests.get(f"{server.url}/gradio_api/{path}", timeout=10).status_code == 404
    assert requests.post(f"{server.url}/gradio_api/{path}", json={}, timeout=10).status_code == 404


@pytest.mark.parametrize(
    "path", ["process_recording", "component_server", "vibe-edit", "run/look", "api/look", "call/look"]
)
def test_unused_routes_accept_no_data(server: Served, path: str) -> None:
    answer = requests.post(f"{server.url}/gradio_api/{path}", json={"data": [None]}, timeout=10)
    assert answer.status_code == 404
    assert answer.text.startswith("Not found.")
