"""Servers to test: the whole command in its own process, and the HTTP API in a thread of this one."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
import torch

from farfield import build_model
from farfield.checkpoints.checkpoint import save_model
from farfield.server.limits import Limits, ServerSettings
from forks import start_fork_server

collect_ignore_glob = [] if find_spec("gradio") else ["test_*.py"]  # the demo extra

LABELS = ["bow", "<b>get up</b>", "lie_down", "sit & rest", "stand_up", "<script>marker()</script>", "walk"]
START_SECONDS = 120
"""Time for a server to start: two processes import PyTorch."""


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        url: address, without a slash at its end.
        folder: private folder.
        pid: process id.
        log: file with its standard error; None for a server in this process.
    """

    url: str
    folder: Path
    pid: int
    log: Path | None = None

    def ask(self, content: bytes, name: str = "clip.mp4", **options: object) -> requests.Response:
        return requests.post(f"{self.url}/predict", files={"file": (name, content)}, timeout=60, **options)  # type: ignore[arg-type]

    def health(self) -> dict:
        return requests.get(f"{self.url}/health", timeout=20).json()

    def incoming(self) -> list[Path]:
        return list((self.folder / "incoming").iterdir())


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with 7 labels and a non-local block, for 8 frames of 40 pixels."""
    torch.manual_seed(5)
    clip = {"num_frames": 8, "crop_px": 40, "num_clips": 3, "num_crops": 2}
    model = build_model("tiny", labels=LABELS, insert={"res3": [1]}, clip=clip)
    path = tmp_path_factory.mktemp("served") / "a.ckpt"
    save_model(model, path)
    return path


@pytest.fixture(scope="session")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`farfield serve` with its page, limited to videos of 20 s, 400,000 pixels and 3 MiB."""
    folder = tmp_path_factory.mktemp("server")
    words = ["--checkpoint", str(checkpoint), "--port", "0", "--threads", "1", "--names", "[video.example.org]"]
    limits = {
        "clip_seconds": 20,
        "frame_pixels": 400_000,  # a recording of the camera has 307,200
        "upload_bytes": 3 * 2**20,
        "job_seconds": 30,
        "max_waiting": 20,
    }
    words += [word for name, value in limits.items() for word in (f"--limits.{name}", str(value))]
    with run_command(words, folder) as served:
        yield served


@contextmanager
def run_command(words: list[str], folder: Path, ended_by: signal.Signals = signal.SIGTERM) -> Iterator[Served]:
    """Run `farfield serve` until the block ends, with `folder` for its temporary files."""
    log = folder / "log"
    environment = {**os.environ, "TMPDIR": str(folder)}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "farfield", "serve", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        printed = process.stdout.readline()  # the server prints its address once it listens
        found = re.search(r"http://127\.0\.0\.1:\d+", printed)
        assert found, f"{printed!r}\n{log.read_text()}"
        wait_for(found[0])
        (private,) = folder.glob("farfield-serve-*")
        yield Served(found[0], private, process.pid, log)
    finally:
        process.send_signal(ended_by)
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
    assert list(folder.glob("farfield-serve-*")) == [], "the server's folder outlived it"
    assert process.returncode == 128 + signal.SIGTERM


def wait_for(url: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@contextmanager
def run_here(settings: ServerSettings, names: frozenset[str] = frozenset()) -> Iterator[Served]:
    """Serve the HTTP API from a thread of this process."""
    from farfield.server.app import build_app, build_server, own_host_names

    start_fork_server()
    with socket.socket() as listening, tempfile.TemporaryDirectory() as parent:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        hosts = own_host_names("127.0.0.1", "127.0.0.1")
        with pytest.MonkeyPatch.context() as patch:  # other programs write to the system's folder
            patch.setattr("tempfile.tempdir", parent)
            app = build_app(settings, page=False, hosts=hosts, names=names)
        server = build_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            wait_for(url)
            yield Served(url, app.folder.path, os.getpid())
        finally:
            server.should_exit = True
            thread.join(30)
    assert not app.folder.path.exists(), "the server's folder outlived it"


NARROW = Limits(
    num_workers=1,
    max_waiting=0,
    job_seconds=30,
    upload_bytes=2**20,
    kept_bytes=2 * 2**20 + 2**18,
    upload_seconds=2,
    timeline_windows=10**6,
)
"""One worker, no queue, half a minute for a request and two seconds for its body of at most 1 MiB."""


@pytest.fixture(scope="session")
def narrow(checkpoint: Path) -> Iterator[Served]:
    """A server of limits `NARROW`, with very short windows."""
    settings = ServerSettings(str(checkpoint), NARROW, window_seconds=0.02)
    with run_here(settings, names=frozenset(["video.example.org"])) as served:
        yield served


@pytest.fixture(scope="session")
def long_video(make_video: Callable[..., Path]) -> Path:
    """A small video whose timeline, of 6,000 windows in `narrow`, takes far more than four seconds."""
    from conftest import numbered_frame
    from farfield.video.writer import write_video

    path = make_video(1).with_name("long.mp4")
    write_video(path, (numbered_frame(i % 1000, height=32) for i in range(6000)), fps=100, crf=45)
    return path
