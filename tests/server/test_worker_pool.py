"""Worker processes that end while they start. Here they load no network, and count their starts in a folder."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farfield.errors import FarfieldError
from farfield.server import worker_process
from farfield.server.limits import Limits, ServerSettings
from farfield.server.refusals import Refused
from farfield.server.worker_pool import WorkerPool


def start(settings: ServerSettings) -> None:
    """End the process at its first starts, whose number is passed as `timeline_windows`."""
    starts = Path(settings.checkpoint)
    before = len(list(starts.iterdir()))
    Path(tempfile.mkstemp(dir=starts)[1])
    if before < settings.limits.timeline_windows:
        os._exit(9)


def call(function: str, arguments: tuple) -> str:
    return function


@contextmanager
def ending(times: int, starts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
    monkeypatch.setattr(worker_process, "start", start)
    monkeypatch.setattr(worker_process, "call", call)
    workers = WorkerPool(ServerSettings(str(starts), Limits(num_workers=1, timeline_windows=times)))
    try:
        yield workers
    finally:
        workers.stop()


def test_a_process_that_ends_at_its_start_is_reported_before_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ending(1, tmp_path, monkeypatch) as workers,
        pytest.raises(
            FarfieldError, match=r"a worker process \(of 1\) ended while it loaded the network, probably for lack"
        ),
    ):
        workers.describe()


def test_a_request_is_retried_after_a_process_ends_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ending(1, tmp_path, monkeypatch) as workers:
        assert asyncio.run(workers.run("a.mp4", "recognise")) == "recognise"


def test_processes_that_always_end_are_reported_as_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ending(99, tmp_path, monkeypatch) as workers:
        with pytest.raises(Refused, match="The server's worker processes fail to start") as refused:
            asyncio.run(workers.run("a.mp4", "recognise"))
        assert refused.value.status == 503


def test_a_task_that_the_pool_forgot_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "before").touch()  # so that no process ends
    with ending(1, tmp_path, monkeypatch) as workers:
        right = workers._schedule

        def forget(*task: Any) -> Future:
            monkeypatch.setattr(workers, "_schedule", right)
            workers._pool.stop()
            return Future()

        monkeypatch.setattr(workers, "_schedule", forget)
        assert asyncio.run(workers.run("a.mp4", "recognise")) == "recognise"


def test_no_process_starts_after_the_server_has_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "before").touch()
    with ending(1, tmp_path, monkeypatch) as workers:
        assert asyncio.run(workers.run("a.mp4", "recognise")) == "recognise"
        workers.stop()
        starts = len(list(tmp_path.iterdir()))
        with pytest.raises(Refused, match="shutting down"):
            asyncio.run(workers.run("a.mp4", "recognise"))
        assert len(list(tmp_path.iterdir())) == starts
