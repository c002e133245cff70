"""The long checks and the benchmark of the data, scaled down."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import benchmark_data
import check_decoding
import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.slow
def test_damaged_files_crash_nothing_and_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check_decoding.py", "--variants=100", "--seed=7", "--json"])
    assert check_decoding.main() == 0
    about = json.loads(capsys.readouterr().out)
    assert about["files"] == 110
    assert about["crashed"] == about["hung"] == 0
    assert about["read"] + about["named"] == 110
    assert about["named"] > 30
    assert all(reason and "\n" not in reason for reason in about["reasons"])


@pytest.mark.slow
def test_memory_stays_flat() -> None:
    """In a process of its own, whose memory is no other test's."""
    command = [sys.executable, str(SCRIPTS / "check_memory.py"), "--clips=1500", "--settled=500", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    about = json.loads(done.stdout)
    assert about["growth"] <= 0.03
    assert about["videos_that_could_not_be_read"] > 0


def cpu_seconds(function: Callable[..., object], *arguments: object) -> float:
    """Time a call as `benchmark_data.timed` does, but without the time in which other tests have the core."""
    begin = time.process_time()
    function(*arguments)
    return time.process_time() - begin


@pytest.mark.slow
def test_the_benchmark_measures_and_draws(
    make_video: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overhead = benchmark_data.loader_overhead
    monkeypatch.setattr(benchmark_data, "timed", cpu_seconds)
    monkeypatch.setattr(benchmark_data, "loader_overhead", lambda files, *_: overhead(files, batches=2, rounds=1))
    shown = ("x264's defaults", "prepared (default)", "keyframe interval 1", "interval 8, no B-frames")
    monkeypatch.setattr(benchmark_data, "ENCODINGS", {name: benchmark_data.ENCODINGS[name] for name in shown})
    words = [str(make_video(60)), "--clips=4", "--backbone=tiny", f"--plot={tmp_path / 'data.png'}", "--json"]
    monkeypatch.setattr(sys, "argv", ["benchmark_data.py", *words])
    benchmark_data.main()
    about = json.loads(capsys.readouterr().out)
    encodings = {row["encoding"]: row for row in about["encodings"]}
    assert tuple(encodings) == shown
    assert encodings["x264's defaults"]["speed"] == encodings["x264's defaults"]["bytes"] == 1
    assert encodings["prepared (default)"]["speed"] > 1
    assert encodings["keyframe interval 1"]["bytes"] > encodings["prepared (default)"]["bytes"]
    assert all(ratio > 2 for ratio in about["views_one_by_one_over_together"].values())
    assert {"pyav", "decord"} <= about["clips_per_second_per_core"]["prepared (default)"].keys()
    with Image.open(tmp_path / "data.png") as picture:
        assert picture.size[0] > 500
