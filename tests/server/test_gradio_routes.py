"""Gradio's routes: no file but the server's own is served or read, and no address is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from farfield.untrusted_json import MAX_LEVELS
from server.conftest import Served


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.mp4"
    path.write_text("the secret of this machine")
    return path


def test_no_file_but_the_page_s_own_is_served(server: Served, secret: Path, checkpoint: Path) -> None:
    held = server.folder / "incoming" / "a.mp4"
    held.write_bytes(b"the secret of this machine")
    paths = [
        str(secret),
        str(checkpoint),
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        f"{server.folder}/../log",
        f"{server.folder}/page/../../log",
        str(held),
        "pyproject.toml",
        "http://127.0.0.1:1/a",
        "https://example.com/a",
        "file:///etc/passwd",
    ]
    try:
        for path in paths:
            session = requests.Session()
            request = requests.Request("GET", server.url).prepare()
            request.url = f"{server.url}/gradio_api/file={path}"  # as it is: requests would tidy the dots
            answer = session.send(request, timeout=10)
            assert answer.status_code == 404, path
            assert "secret" not in answer.text.replace("secret.mp4", "")
            assert "root:" not in answer.text
    finally:
        held.unlink()
    assert requests.get(f"{server.url}/static/../../../../../etc/passwd", timeout=10).status_code == 404
    assert requests.get(f"{server.url}/assets/..%2f..%2f..%2fpackage.json", timeout=10).status_code in (403, 404)


def test_what_was_sent_is_served_back(server: Served) -> None:
    sent = requests.post(f"{server.url}/gradio_api/upload", files={"files": ("a.mp4", b"12345")}, timeout=10)
    (path,) = sent.json()
    assert Path(path).is_relative_to(server.folder / "page")
    assert requests.get(f"{server.url}/gradio_api/file={path}", timeout=10).content == b"12345"
    for name in ("../../../a.mp4", "/etc/cron.d/a.mp4"):
        sent = requests.post(f"{server.url}/gradio_api/upload", files={"files": (name, b"1")}, timeout=10)
        assert all(Path(each).is_relative_to(server.folder / "page") for each in sent.json())
        assert not any(".." in each for each in sent.json())


def test_an_upload_of_the_page_is_bounded(server: Served) -> None:
    answer = requests.post(
        f"{server.url}/gradio_api/upload", files={"files": ("a.mp4", b"1" * (4 * 2**20))}, timeout=20
    )
    assert (answer.status_code, answer.text) == (413, "The request is larger than 3 MiB. Send less.")


def event(server: Served, value: Any) -> requests.Response:
    body = {"data": [value], "fn_index": 0, "session_hash": "abc"}
    return requests.post(f"{server.url}/gradio_api/queue/join", json=body, timeout=10)


def test_an_event_names_no_other_file(server: Served, secret: Path) -> None:
    before = server.health()
    kind = {"_type": "gradio.FileData"}
    for path in (
        str(secret),
        "/etc/passwd",
        "../../etc/passwd",
        "http://127.0.0.1:1/a.mp4",
        f"{server.folder}/../log",
        7,
    ):
        for value in ({"path": path, "meta": kind}, {"video": {"path": path, "meta": kind, "is_stream": True}}):
            answer = event(server, value)
            assert answer.status_code == 403, path
            assert answer.text == "Only a file that was sent to this server may be looked at."
    too_deep = "[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1)
    assert event(server, too_deep).status_code == 200  # a text, however odd
    cases = ((too_deep, "it is nested more than 100 levels deep"), ("{", "it is not JSON (line 1, column 2)"))
    for body, reason in cases:
        answer = requests.post(f"{server.url}/gradio_api/queue/join", data=body, timeout=10)
        assert (answer.status_code, answer.text) == (400, f"The event is malformed: {reason}.")
    assert event(server, "x" * 300_000).status_code == 413
    assert [path for path in server.folder.rglob("*") if path.name.startswith(("secret", "passwd"))] == []
    assert server.health()["status"] == before["status"]


def test_an_application_that_is_mounted_checks_paths_itself(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the gate: Gradio's own check, which has to be told that the application runs."""
    from fastapi import FastAPI

    from farfield.server.app import GRADIO_ENVIRONMENT, _mount_page
    from farfield.server.limits import Limits, Setting
    from farfield.server.private_folder import PrivateFolder
    from farfield.server.worker_pool import Workers

    for name in (*GRADIO_ENVIRONMENT, "GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE"):
        monkeypatch.setenv(name, "")  # to be as before in the end
    folder, app = PrivateFolder(), FastAPI()
    about = {"network": "tiny", "labels": ["a", "b"], "num_frames": 8, "attends": False}
    try:
        _mount_page(app, Workers(Setting("none.ckpt", Limits())), folder, about)
        from gradio import processing_utils
        from gradio.context import LocalContext
        from gradio.exceptions import InvalidPathError
        from gradio.routes import App

        (mounted,) = [route.app for route in app.routes if isinstance(getattr(route, "app", None), App)]  # type: ignore[attr-defined]
        page = mounted.get_blocks()
        LocalContext.blocks.set(page)
        assert page.max_file_size == Limits().upload_bytes
        with pytest.raises(InvalidPathError, match="it was not uploaded by a user"):
            processing_utils._check_allowed(str(secret), check_in_upload_folder=True)
    finally:
        folder.remove()


@pytest.mark.parametrize(
    "path",
    [
        "proxy=https://example.com",
        "file/etc/passwd",
        "custom_component/1/a/b/c",
        "deep_link",
        "runs",
        "vibe-code",
        "call/x",
    ],
)
def test_routes_that_the_page_does_not_use_are_closed(server: Served, path: str) -> None:
    assert requests.get(f"{server.url}/gradio_api/{path}", timeout=10).status_code == 404
    assert requests.post(f"{server.url}/gradio_api/{path}", json={}, timeout=10).status_code == 404


@pytest.mark.parametrize(
    "path", ["process_recording", "component_server", "vibe-edit", "run/look", "api/look", "call/look"]
)
def test_nor_may_anything_be_sent_to_them(server: Served, path: str) -> None:
    answer = requests.post(f"{server.url}/gradio_api/{path}", json={"data": [None]}, timeout=10)
    assert answer.status_code == 404
    assert answer.text.startswith("There is nothing here.")
