"""What computes, without a server around it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.precision import Precision
from farfield.server import worker
from farfield.server.limits import Limits, Setting


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_clip_is_recognised_and_a_click_answered_in_each_precision(
    precision: Precision,
    checkpoint: Path,
    make_video: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "_bound_memory", lambda count: None)  # of this process: it has other tests to run
    monkeypatch.setattr(worker, "_started", None)
    worker.start(Setting(str(checkpoint), Limits(), precision=precision, threads=1))
    kept = str(tmp_path / "kept.npy")
    found = worker.recognise(str(make_video(30)), "clip.mp4", kept)
    assert len(found["ranking"]) == 5
    assert worker.attend(kept, (0.5, None, None)).startswith(b"\x89PNG")


def test_the_servers_own_process_has_no_pytorch_and_no_decoder() -> None:
    code = (
        "import sys, farfield.server.worker_pool, farfield.server.http_api, farfield.server.middleware\n"
        "print([name for name in ('torch', 'av', 'decord') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
