"""HTTP API: answers and their statuses, and that no request leaves a file behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

import farfield
from farfield.checkpoints.checkpoint import load_network
from farfield.server import http_api, idle_connections, middleware
from server.conftest import LABELS, NARROW, Served

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_file_is_left(narrow: Served) -> Iterator[None]:
    yield
    end = time.monotonic() + 5
    while (narrow.incoming() or narrow.health()["busy"]) and time.monotonic() < end:
        time.sleep(0.05)
    assert narrow.incoming() == []
    assert narrow.health()["busy"] == 0


def test_the_answer_agrees_with_predict(
    narrow: Served, checkpoint: Path, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_video(30)
    answer = narrow.ask(path.read_bytes(), "my clip.mp4")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    expected = farfield.predict(path, load_network(checkpoint))
    assert [each["label"] for each in found["ranking"]] == [each.label for each in expected.ranking]
    assert [each["probability"] for each in found["ranking"]] == pytest.approx(
        [each.probability for each in expected.ranking], abs=1e-5
    )
    assert found["path"] == "my clip.mp4"
    assert found["model"] == "tiny"
    assert found["duration_seconds"] == pytest.approx(1.2, abs=0.02)
    assert {each["label"] for each in found["segments"]} <= set(LABELS)
    assert found["segments"][0]["start_seconds"] == 0
    assert found["note"] is None
    assert found["error"] is None
    raw = requests.post(f"{narrow.url}/predict", data=path.read_bytes(), timeout=30).json()
    assert {**raw, "path": ""} == {**found, "path": ""}
    assert raw["path"] == "the video"


def test_health_describes_the_server(narrow: Served) -> None:
    assert narrow.health() == {
        "status": "ok",
        "network": "tiny",
        "labels": 7,
        "version": farfield.__version__,
        "device": "cpu",
        "busy": 0,
    }


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("empty", "the file is empty"),
        ("text", "it is text, not a video"),
        ("truncated", ""),
        ("corrupt", ""),
        ("audio_only", "the file has no video stream"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(
    narrow: Served, bad_files: dict[str, Path], file: str, reason: str
) -> None:
    answer = narrow.ask(bad_files[file].read_bytes(), f"{file}.mp4")
    assert answer.status_code == 400, answer.text
    found = answer.json()
    assert found["reason"] == "undecodable"
    assert found["error"].startswith(f"{file}.mp4: {reason}")
    assert len(found["error"]) > len(f"{file}.mp4: ")
    assert str(narrow.folder) not in answer.text
    assert "/tmp" not in answer.text


FORM = "multipart/form-data; boundary=b"
TEXT = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'
BROKEN = b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\n12'


@pytest.mark.parametrize(
    ("content_type", "body", "status", "reason"),
    [
        ("", b"", 422, "no_file"),
        (FORM, TEXT, 422, "no_file"),
        (FORM, b"--b--\r\n", 422, "no_file"),
        (FORM, BROKEN, 400, "malformed"),
        (FORM, b"not a form", 400, "malformed"),
        (FORM, TEXT[:-7] * 100 + BROKEN + b"\r\n--b--\r\n", 400, "malformed"),
        ("multipart/form-data", TEXT, 400, "malformed"),
        (FORM + "b" * 999, TEXT, 400, "malformed"),
        ("application/json", b'{"path": "marker.mp4"}', 400, "undecodable"),
    ],
)
def test_a_request_without_a_valid_file_is_refused(
    narrow: Served, content_type: str, body: bytes, status: int, reason: str
) -> None:
    answer = requests.post(f"{narrow.url}/predict", data=body, headers={"Content-Type": content_type}, timeout=30)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_first_file_of_a_form_is_used(narrow: Served, make_video: Callable[..., Path]) -> None:
    files = [("a", ("first.mp4", make_video(30).read_bytes())), ("b", ("second.mp4", b"text"))]
    answer = requests.post(f"{narrow.url}/predict", data={"x": "1"}, files=files, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["path"] == "first.mp4"


@pytest.mark.parametrize(
    "name", ["../../a.mp4", "/folder/a.mp4", "a\r\nX: b", "<script>.mp4", "x" * 300, "\x00a", "видео"]
)
def test_a_name_is_used_neither_as_a_path_nor_as_a_header(narrow: Served, name: str) -> None:
    before = sorted(narrow.folder.parent.glob("*"))
    answer = narrow.ask(b"no video", name)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/json"
    assert "/" not in answer.json()["error"].split(": ")[0]
    assert "X" not in answer.headers
    assert sorted(narrow.folder.parent.glob("*")) == before


def test_a_body_that_is_too_large_is_refused_while_it_arrives(narrow: Served) -> None:
    """It has no length header, so that its bytes must be counted; at most one chunk beyond the limit is stored."""
    sent, most = 0, 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent, most
        for _ in range(60):
            yield b"x" * 50_000
            sent += 50_000
            time.sleep(0.002)
            most = max([most, *(path.stat().st_size for path in narrow.incoming())])

    answer = requests.post(f"{narrow.url}/predict", data=pieces(), timeout=30)
    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
    assert answer.json()["error"] == "The request is larger than the limit of 1 MiB. Send a smaller request."
    assert sent == 3_000_000
    assert 0 < most <= 2**20 + 2**16 + 2**14


HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def connect(served: Served) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=15)


def test_a_length_header_beyond_the_limit_is_refused_at_once(narrow: Served) -> None:
    with connect(narrow) as connection:
        head = (
            "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_longer_than_its_length_header_is_refused(narrow: Served) -> None:
    with connect(narrow) as connection:
        connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n" + b"x" * 5000)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert narrow.health()["status"] == "ok"


def test_a_body_that_does_not_arrive_in_time_is_refused(narrow: Served) -> None:
    with connect(narrow) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nabc")
        begun = time.monotonic()
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"slow_upload"' in answer
        assert 1.5 < time.monotonic() - begun < 8


@contextmanager
def slow_sender(served: Served, kind: bytes = b"Content-Length: 900000") -> Iterator[socket.socket]:
    """Send half of a body, and keep the connection open."""
    before = len(served.incoming())
    with connect(served) as connection:
        chunk = b"" if b"Length" in kind else b"70000\r\n"
        connection.sendall(HEAD + kind + b"\r\n\r\n" + chunk + b"x" * 450_000)
        end = time.monotonic() + 5
        while len(served.incoming()) == before and time.monotonic() < end:
            time.sleep(0.01)
        yield connection


def test_a_slow_sender_occupies_no_worker(narrow: Served, make_video: Callable[..., Path]) -> None:
    with slow_sender(narrow):
        assert narrow.health()["busy"] == 0
        assert narrow.ask(make_video(30).read_bytes()).status_code == 200


@pytest.mark.parametrize("kind", [b"Content-Length: 900000", b"Transfer-Encoding: chunked"])
def test_uploads_in_progress_count_towards_the_space(narrow: Served, kind: bytes) -> None:
    with slow_sender(narrow, kind), slow_sender(narrow, kind):
        third = narrow.ask(b"x" * 600_000)
        assert (third.status_code, third.json()["reason"]) == (503, "busy"), third.text
        assert third.json()["error"] == "The server's disk space for videos is full. Try again later."
        assert narrow.ask(b"x").status_code == 400  # which fits
    assert narrow.ask(b"x" * 600_000).status_code == 400


def test_a_full_disk_is_reported_as_json(narrow: Served, caplog: pytest.LogCaptureFixture) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        answer = narrow.ask(b"x" * 600_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (answer.status_code, answer.json()) == (
        503,
        {"error": "The server cannot store the file; see its log. Try again later.", "reason": "busy"},
    )
    assert "an upload could not be stored: [Errno 27]" in caplog.text


def test_a_bug_is_reported_as_json(narrow: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "save_upload", None)
    answer = narrow.ask(b"x")
    assert (answer.status_code, answer.json()["reason"]) == (500, "internal")
    assert answer.json()["error"] == "The server failed; see its log. This is a bug in farfield."


def test_the_number_of_uploads_in_progress_is_limited(narrow: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "MAX_UPLOADS", 1)
    with slow_sender(narrow):
        second = narrow.ask(b"x")
        assert (second.status_code, second.json()["reason"]) == (503, "busy")
        assert second.json()["error"].startswith("Too many uploads are in progress.")
    assert narrow.ask(b"x").status_code == 400


def test_the_oldest_idle_connections_are_closed_when_there_are_too_many(
    narrow: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is for clients that open many connections without a request, until the server accepts no others."""
    monkeypatch.setattr(idle_connections, "MAX_IDLE", 4)
    monkeypatch.setattr(idle_connections, "HEAD_SECONDS", 600)  # the timeout would close them, too
    idle: list[socket.socket] = []
    try:
        for _ in range(6):
            idle.append(connect(narrow))
            idle[-1].settimeout(5)
            time.sleep(0.05)  # so that the server accepts them in this order
        assert [connection.recv(1) for connection in idle[:2]] == [b"", b""]
        for connection in idle[2:]:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
        assert narrow.health()["status"] == "ok"
    finally:
        for connection in idle:
            connection.close()


def test_a_head_that_does_not_arrive_in_time_closes_the_connection(
    narrow: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_connections, "HEAD_SECONDS", 0.5)
    whole = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connect(narrow) as connection:
        for _ in range(3):  # the timeout restarts with each request
            connection.sendall(whole)
            time.sleep(0.3)
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200 ")
        begun = time.monotonic()
        connection.sendall(whole[:-2])
        connection.settimeout(0.05)
        with suppress(ConnectionError):
            while time.monotonic() - begun < 5:
                connection.sendall(b"X: 1\r\n")
                with suppress(TimeoutError):
                    assert connection.recv(1000) == b""
                    break
        assert time.monotonic() - begun < 2


def test_a_client_that_disconnects_leaves_no_file(narrow: Served) -> None:
    with connect(narrow) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000)
        end = time.monotonic() + 5
        while not narrow.incoming() and time.monotonic() < end:
            time.sleep(0.01)
        assert narrow.incoming()


def test_a_slow_request_is_ended_and_others_are_refused_as_busy(
    narrow: Served, long_video: Path, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(vars(NARROW), "job_seconds", 4)
        asking, answers = _ask_meanwhile(narrow, long_video)
        second = narrow.ask(make_video(30).read_bytes())
        asking.join(30)
    assert (second.status_code, second.json()["reason"]) == (503, "busy"), second.text
    assert int(second.headers["Retry-After"]) > 0
    (first,) = answers
    assert (first.status_code, first.json()["reason"]) == (504, "time_limit"), first.text
    assert first.json()["error"] == "long.mp4: it took longer than 4 s. Send a shorter or smaller video."
    assert narrow.ask(make_video(30).read_bytes()).status_code == 200


def test_a_process_that_dies_fails_one_request(
    narrow: Served, long_video: Path, make_video: Callable[..., Path]
) -> None:
    asking, answers = _ask_meanwhile(narrow, long_video)
    time.sleep(0.5)
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSEGV)
    asking.join(30)
    assert (answers[0].status_code, answers[0].json()["error"]) == (400, "long.mp4: the decoder crashed.")
    assert narrow.ask(make_video(30).read_bytes()).status_code == 200


def test_an_idle_process_that_dies_fails_no_request(narrow: Served, make_video: Callable[..., Path]) -> None:
    content = make_video(30).read_bytes()
    assert narrow.ask(content).status_code == 200
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(10)
    end = time.monotonic() + 10
    while narrow.health()["status"] == "ok" and time.monotonic() < end:
        time.sleep(0.05)
    assert "the next request restarts them" in narrow.health()["status"]
    assert narrow.ask(content).status_code == 200
    assert narrow.health()["status"] == "ok"


def _ask_meanwhile(served: Served, video: Path) -> tuple[threading.Thread, list[requests.Response]]:
    """Send a video, and return once the server works on it; the list receives the answer."""
    answers: list[requests.Response] = []
    content = video.read_bytes()
    asking = threading.Thread(target=lambda: answers.append(served.ask(content, video.name)))
    asking.start()
    _until_busy(served)
    return asking, answers


def _until_busy(served: Served) -> None:
    end = time.monotonic() + 10
    while not served.health()["busy"] and time.monotonic() < end:
        time.sleep(0.01)
    assert served.health()["busy"] == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "other.example"}, 403),
        ({"Host": "127.0.0.1.other.example:7860"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "[::1]:1234"}, 200),
        ({"Host": "Video.example.org"}, 200),
        ({"Host": "video.example.org:8443"}, 200),
        ({"Origin": "http://other.example"}, 200),  # pages of any origin may read the health
    ],
)
def test_the_server_answers_only_to_its_own_names(narrow: Served, headers: dict[str, str], status: int) -> None:
    answer = requests.get(f"{narrow.url}/health", headers=headers, timeout=10)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"] == (
            "This server answers only to these host names: 127.0.0.1, ::1, localhost, video.example.org. If it is "
            "behind a proxy, give the proxy's host name with farfield serve --names."
        )


@pytest.mark.parametrize("origin", ["http://other.example", "null", "http://127.0.0.1:1", "http://["])
def test_a_page_of_another_origin_may_not_send(narrow: Served, origin: str) -> None:
    answer = narrow.ask(b"x", headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json()["error"].startswith("Requests from pages of another origin are not accepted.")
    assert narrow.ask(b"x", headers={"Origin": narrow.url}).status_code == 400


@pytest.mark.parametrize("host", ["video.example.org", "127.0.0.1:7860"], ids=["passed on", "not passed on"])
@pytest.mark.parametrize("origin", ["https://video.example.org", "http://VIDEO.example.org:8443"])
def test_a_page_behind_a_proxy_may_send(narrow: Served, host: str, origin: str) -> None:
    assert narrow.ask(b"x", headers={"Host": host, "Origin": origin}).status_code == 400
    for other in ("https://other.example", "https://video.example.org.other.example", "ftp://video.example.org"):
        assert narrow.ask(b"x", headers={"Host": host, "Origin": other}).status_code == 403


@pytest.mark.parametrize(
    "path", ["/predict", "/docs", "/openapi.json", "/../folder/marker.txt", "/gradio_api/file=/folder/marker.txt"]
)
def test_other_paths_are_not_found(narrow: Served, path: str) -> None:
    answer = requests.get(narrow.url + path, timeout=10)
    assert answer.status_code == 404
    assert "Not found." in answer.text
    assert requests.delete(narrow.url + path, timeout=10).status_code == 404


def test_an_allocation_beyond_the_memory_limit_is_refused(checkpoint: Path, make_video: Callable[..., Path]) -> None:
    """It runs in its own process, because the limit cannot be lifted again."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        message = pool.submit(_exceed_memory, str(checkpoint), str(make_video(30))).result(300)
    assert message == [
        "a.mp4: it needs more memory than the limit allows. Send a smaller video.",
        "the video: it needs more memory than the limit allows. Send a smaller video.",
    ]


def _exceed_memory(checkpoint: str, path: str) -> list[str]:
    import tempfile

    import numpy as np
    import torch

    from farfield.server import worker_tasks
    from farfield.server.limits import Limits, ServerSettings
    from farfield.server.refusals import Refused

    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    messages = []
    worker_tasks.start(ServerSettings(checkpoint, Limits(memory_bytes=2**28)))
    worker_tasks.predict_video = lambda *_, **__: np.ones(2**30, np.uint8)  # type: ignore[assignment]
    worker_tasks.attention_maps = out_of_memory  # type: ignore[assignment]
    with tempfile.NamedTemporaryFile(suffix=".npy") as kept:
        np.save(kept.name, np.zeros((8, 40, 40, 3), np.uint8))
        for ask in (
            lambda: worker_tasks.recognise(path, "a.mp4"),
            lambda: worker_tasks.draw_point_attention(kept.name, (0.5, None, None)),
        ):
            try:
                ask()
            except Refused as refused:
                messages.append(str(refused))
    return messages
