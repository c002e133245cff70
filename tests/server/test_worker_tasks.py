"""Tasks of a worker process, run in this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farfield.precision import Precision
from farfield.server import worker_tasks
from farfield.server.limits import Limits, ServerSettings
from farfield.timelines import timeline


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_video_is_recognised_and_its_attention_drawn_in_each_precision(
    precision: Precision,
    checkpoint: Path,
    make_video: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_tasks, "_limit_memory", lambda count: None)  # this process has other tests to run
    monkeypatch.setattr(worker_tasks, "_started", None)
    worker_tasks.start(ServerSettings(str(checkpoint), Limits(), precision=precision, threads=1))
    kept = str(tmp_path / "kept.npy")
    found = worker_tasks.recognise(str(make_video(30)), "clip.mp4", kept)
    assert len(found["ranking"]) == 5
    assert worker_tasks.draw_point_attention(kept, (0.5, None, None)).startswith(b"\x89PNG")


@pytest.mark.slow
def test_windows_of_a_long_video_are_as_far_apart_as_the_limit_of_windows_demands(
    checkpoint: Path, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hops: list[float | None] = []

    def make_timeline(video: Any, path: Any, model: Any, options: Any) -> Any:
        hops.append(options.hop_seconds)
        return timeline.make_timeline(video, path, model, options)

    monkeypatch.setattr(worker_tasks, "_limit_memory", lambda count: None)  # this process has other tests to run
    monkeypatch.setattr(worker_tasks, "make_timeline", make_timeline)
    video = str(make_video(100))  # 4 s
    for window, windows in ((0.5, 20), (0.5, 8)):
        monkeypatch.setattr(worker_tasks, "_started", None)
        limits = Limits(timeline_windows=windows)
        worker_tasks.start(ServerSettings(str(checkpoint), limits, window_seconds=window, threads=1))
        worker_tasks.recognise(video, "clip.mp4")
    assert hops == [0.25, 0.5]  # half a window; 4 s / 8


@pytest.mark.slow
def test_the_servers_own_process_imports_neither_pytorch_nor_a_decoder() -> None:
    code = (
        "import sys, farfield.server.worker_pool, farfield.server.http_api, farfield.server.middleware\n"
        "print([name for name in ('torch', 'av', 'decord') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
