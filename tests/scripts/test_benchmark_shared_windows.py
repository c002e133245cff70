"""The benchmark of windows that share work as a user runs it, on small windows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import benchmark_shared_windows
import pytest
import torch

from forks import run_forked, start_fork_server

SMALL = ["--num_frames", "4", "--side_px", "32", "--windows", "6", "--rounds", "1", "--threads", "1"]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_measures_windows_that_share_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    start_fork_server()
    monkeypatch.setattr(benchmark_shared_windows.subprocess, "run", run_forked)
    monkeypatch.setattr(sys, "argv", ["benchmark", *SMALL, "--networks", "tiny_c2d", "--json"])
    benchmark_shared_windows.main()
    (row,) = json.loads(capsys.readouterr().out)["networks"]
    assert row["clip"] == [4, 6, 32]
    assert row["hop_sampled_frames"] == 1
    assert 2.5 < row["arithmetic"] < 6 * 4 / 9  # nine frames, and a head for each window
    assert row["arithmetic"] < row["arithmetic_endless"] < 4
    assert row["of_the_arithmetic"] == pytest.approx(row["times_faster"] / row["arithmetic"])
    assert row["logits_apart"] < 1e-5
    assert row["memory_ratio"] == pytest.approx(row["peak_bytes"]["shared"] / row["peak_bytes"]["alone"])
    assert min(row["peak_bytes"].values()) > 50e6


def test_says_what_shares_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *SMALL, "--networks", "tiny"])
    with pytest.raises(SystemExit, match="2"):
        benchmark_shared_windows.main()
    message = "the windows of tiny share no work. Choose another network, or a shorter --hop."
    assert message in capsys.readouterr().err
