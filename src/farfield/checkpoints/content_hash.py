"""Content hash of a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

from farfield.checkpoints.hub_folder import CONFIG, WEIGHTS
from farfield.checkpoints.hugging_face_folder import PROCESSORS, find_folder, is_hugging_face, weight_files
from farfield.errors import FarfieldError


def network_hash(checkpoint: str | Path) -> str:
    """Return a hash of a network's file content, as 16 hexadecimal digits.

    Args:
        checkpoint: file or folder of a network, or a model's name on huggingface.co. For an OpenVINO .xml file, the
            .bin file of the same name is hashed, too. Of a folder, only the weights, the config and, for
            Hugging Face, the preprocessing settings are hashed.

    Raises:
        FarfieldError: if a file cannot be read.
    """
    if is_hugging_face(checkpoint):
        folder = find_folder(checkpoint)
        present = [folder / name for name in PROCESSORS if (folder / name).is_file()]
        return _hash([folder / CONFIG, *present, *weight_files(folder)], checkpoint)
    path = Path(checkpoint)
    files = [path / CONFIG, path / WEIGHTS] if path.is_dir() else [path]
    if path.suffix.lower() == ".xml" and path.with_suffix(".bin").is_file():
        files.append(path.with_suffix(".bin"))
    return _hash(files, checkpoint)


def _hash(files: list[Path], checkpoint: str | Path) -> str:
    digest = hashlib.sha256()
    try:
        for each in files:
            with each.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise FarfieldError(f"the checkpoint {checkpoint} cannot be read: {error.strerror}. Check the path.") from error
    return digest.hexdigest()[:16]
