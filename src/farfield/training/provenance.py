"""Provenance of a run: its initial weights and their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from farfield.checkpoints.content_hash import network_hash
from farfield.checkpoints.hugging_face_folder import is_hugging_face


def weights_provenance(weights: str | None) -> str | None:
    """Append a hash to the path of a run's initial weights, for example "best.ckpt (sha256 0123456789abcdef)".

    For a model on huggingface.co, or a folder that `transformers` wrote, the hash is the network's content hash. For a
    file, it is the first 16 digits of the SHA-256. Any other value, such as None, is returned unchanged.
    """
    if weights is not None and is_hugging_face(weights):
        return f"{weights} (hash {network_hash(weights)})"
    if weights is None or not Path(weights).is_file():
        return weights
    with Path(weights).open("rb") as file:
        return f"{weights} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"
