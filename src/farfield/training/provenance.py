"""Provenance of a run: the version of the code, and the name or hash of the initial weights."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path


def code_version() -> str:
    """Return the package's version, in a git checkout with the commit: "0.1.0 (1a2b3c4d, changed)"."""
    folder, number = Path(__file__).parents[1], version("farfield")
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


def weights_provenance(weights: str | None) -> str | None:
    """Return `weights`; if it is the path of a file, add the first 16 hexadecimal digits of the file's SHA-256."""
    if weights is None or not Path(weights).is_file():
        return weights
    with Path(weights).open("rb") as file:
        return f"{weights} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"
