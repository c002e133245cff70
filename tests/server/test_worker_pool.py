"""Processes that end while they start. The processes here load no network, and note their starts in a folder."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farfield.errors import FarfieldError
from farfield.server import worker_process
from farfield.server.limits import Limits, Refused, Setting
from farfield.server.worker_pool import Workers


def start(setting: Setting) -> None:
    """Ends the process, as often as the limit `timeline_windows` says."""
    starts = Path(setting.checkpoint)
    before = len(list(starts.iterdir()))
    Path(tempfile.mkstemp(dir=starts)[1])
    if before < setting.limits.timeline_windows:
        os._exit(9)


def call(function: str, arguments: tuple) -> str:
    return function


@contextmanager
def ending(times: int, starts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setattr(worker_process, "start", start)
    monkeypatch.setattr(worker_process, "call", call)
    workers = Workers(Setting(str(starts), Limits(num_workers=1, timeline_windows=times)))
    try:
        yield workers
    finally:
        workers.stop()


def test_a_process_that_ends_as_it_starts_is_told_before_anything_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ending(1, tmp_path, monkeypatch) as workers,
        pytest.raises(
            FarfieldError, match=r"one of 1 processes ended while it loaded the network, probably for memory"
        ),
    ):
        workers.describe()


def test_a_process_that_ends_as_it_starts_costs_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ending(1, tmp_path, monkeypatch) as workers:
        assert asyncio.run(workers.run("a.mp4", "recognise")) == "recognise"


def test_processes_that_always_end_are_no_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ending(99, tmp_path, monkeypatch) as workers:
        with pytest.raises(Refused, match="The server's processes end as they start") as refused:
            asyncio.run(workers.run("a.mp4", "recognise"))
        assert refused.value.status == 503
