"""The benchmark of windows that share work as a user runs it, on small windows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_shared_windows.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    small = ["--num_frames", "4", "--side_px", "32", "--windows", "6", "--rounds", "1", "--threads", "1"]
    return subprocess.run([sys.executable, SCRIPT, *small, *arguments], capture_output=True, text=True, check=False)


def test_measures_windows_that_share_work() -> None:
    done = run("--networks", "tiny_c2d", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["networks"]
    assert row["clip"] == [4, 6, 32]
    assert row["hop_sampled_frames"] == 1
    assert 2.5 < row["arithmetic"] < 6 * 4 / 9  # nine frames, and a head for each window
    assert row["arithmetic"] < row["arithmetic_endless"] < 4
    assert row["of_the_arithmetic"] == pytest.approx(row["times_faster"] / row["arithmetic"])
    assert row["logits_apart"] < 1e-5
    assert row["memory_ratio"] == pytest.approx(row["peak_bytes"]["shared"] / row["peak_bytes"]["alone"])
    assert min(row["peak_bytes"].values()) > 50e6


def test_says_what_shares_nothing() -> None:
    done = run("--networks", "tiny")
    assert done.returncode == 2
    assert "the windows of tiny share no work. Choose another network, or a shorter --hop." in done.stderr
