"""A folder of videos that tests index."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def tree(tmp_path: Path, make_video: Callable[..., Path], bad_files: dict[str, Path]) -> Path:
    """Three videos of the classes jump and run, and a file that is none."""
    root = tmp_path / "videos"
    for name in ("jump/a.mp4", "jump/more/b.mp4", "run/c d.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_video(40, fps=20), root / name)
    shutil.copy(bad_files["text"], root / "run/notes.mp4")
    return root
