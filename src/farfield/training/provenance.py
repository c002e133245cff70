"""Provenance of a run: its initial weights and their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from farfield.checkpoints.content_hash import network_hash
from farfield.checkpoints.hugging_face_folder import is_hugging_face


def weights_provenance(weights: str | None) -> str | None:
    """Return `weights` with a hash: the content hash for weights of `transformers`, a short SHA-256 for other files."""
    if weights is not None and is_hugging_face(weights):
        return f"{weights} (hash {network_hash(weights)})"
    if weights is None or not Path(weights).is_file():
        return weights
    with Path(weights).open("rb") as file:
        return f"{weights} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"
