"""Read text files that a user gives: annotations and lists of class names."""

from __future__ import annotations

from pathlib import Path

from farfield.errors import FarfieldError


def read_text(path: Path, needed: str, *, kind: str = "file ") -> str:
    """Read a UTF-8 text file.

    Args:
        path: file to read.
        needed: sentence of the error message that says what file to give.
        kind: words that precede the path in the error message, with a space at the end.

    Raises:
        FarfieldError: for a missing file, or one that is not UTF-8 text.
    """
    if not path.is_file():
        raise FarfieldError(f"there is no {kind}{path}. {needed}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FarfieldError(f"{path} is not UTF-8 text: {error}") from error
