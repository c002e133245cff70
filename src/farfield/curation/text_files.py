"""Text files that a user names: annotations and lists of class names."""

from __future__ import annotations

from pathlib import Path

from farfield.errors import FarfieldError


def read_text(path: Path, needed: str, *, kind: str = "file ") -> str:
    """Read a UTF-8 text file.

    Args:
        path: file to read.
        needed: sentence for the error message, saying what file to give.
        kind: what the file is, for the error message.

    Raises:
        FarfieldError: for a missing file, or one that is not UTF-8 text.
    """
    if not path.is_file():
        raise FarfieldError(f"there is no {kind}{path}. {needed}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FarfieldError(f"{path} is not UTF-8 text: {error}") from error
