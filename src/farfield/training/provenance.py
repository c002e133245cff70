"""Provenance of a run: the version of the code, and the name or hash of the initial weights."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path

from farfield.checkpoints.content_hash import network_hash
from farfield.checkpoints.hugging_face_folder import is_hugging_face


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
    """Return `weights`; for a file, add the first 16 hexadecimal digits of its SHA-256, for a folder a content hash."""
    if weights is not None and is_hugging_face(weights):
        return f"{weights} (hash {network_hash(weights)})"
    if weights is None or not Path(weights).is_file():
        return weights
    with Path(weights).open("rb") as file:
        return f"{weights} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"
