"""Version of the code that runs, with the commit of a git checkout."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path


def code_version() -> str:
    """Return the package's version.

    In a git checkout, the commit is added, and "changed" if files differ from the commit: "0.2.0 (1a2b3c4d, changed)".
    """
    folder, number = Path(__file__).parent, version("farfield")
    try:
        root = Path(_git(folder, "rev-parse", "--show-toplevel"))
        if not folder.is_relative_to(root / "src"):  # installed inside another project's repository
            return number
        commit = _git(folder, "rev-parse", "--short=8", "HEAD")
        changed = ", changed" if _git(folder, "status", "--porcelain", "--", str(folder)) else ""
    except (OSError, subprocess.SubprocessError):
        return number
    return f"{number} ({commit}{changed})"


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
