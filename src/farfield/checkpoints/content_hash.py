"""Content hash of a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

from farfield.checkpoints.hub_folder import CONFIG, WEIGHTS
from farfield.errors import FarfieldError


def network_hash(checkpoint: str | Path) -> str:
    """Return a content hash (16 hexadecimal digits) of a network's file, or of the weights and config in its folder.

    Raises:
        FarfieldError: if a file cannot be read.
    """
    path = Path(checkpoint)
    files = [path / CONFIG, path / WEIGHTS] if path.is_dir() else [path]
    if path.suffix.lower() == ".xml" and path.with_suffix(".bin").is_file():
        files.append(path.with_suffix(".bin"))
    digest = hashlib.sha256()
    try:
        for each in files:
            with each.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise FarfieldError(f"the checkpoint {checkpoint} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()[:16]
