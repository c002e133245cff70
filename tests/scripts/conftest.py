"""Shared fixtures of the scripts' tests."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import runs

from farfield.cli import main
from farfield.data.manifest import read_manifest
from forks import start_fork_server


@pytest.fixture(scope="module")
def forks() -> None:
    """Let processes that scripts start be forks of one that has imported what they need."""
    start_fork_server()


@pytest.fixture
def runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scripts train and test in this process, since each process imports PyTorch and Lightning for seconds.

    The scripts run one after the other then: they need --jobs=1. That processes of their own do the same is tested in
    test_training_scripts.py (an ablation goes on) and test_runs.py.
    """
    monkeypatch.setattr(runs, "run_commands", run_commands_here)


@pytest.fixture
def copy_figures(figures: Path) -> Callable[..., Path]:
    """Copies the *figures* videos of all tests, for a script that would `synthesize` as many of its own."""

    def copy(task: str, folder: str | Path, **counts: Any) -> Path:
        found = {f"num_{split}": len(read_manifest(figures / f"{split}.csv")) for split in ("train", "val", "test")}
        assert (task, {name: counts[name] for name in found}) == ("figures", found)
        return Path(shutil.copytree(figures, folder))

    return copy


@pytest.fixture
def few_objects() -> Iterator[None]:
    """Keep the objects of all imported modules out of garbage collections: scripts collect before each measurement."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def run_commands_here(commands: Sequence[Sequence[Any]], log: Path, *, num_threads: int = 1) -> None:
    """Run commands as `runs.run_commands` does, in this process."""
    log.parent.mkdir(parents=True, exist_ok=True)
    ours = logging.getLogger("farfield")
    handlers = ours.handlers
    with log.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            for words in commands:
                if status := main([str(word) for word in words]):
                    raise RuntimeError(f"a run failed with status {status}; see {log}")
        finally:
            ours.handlers = handlers  # those of the commands write to the file
