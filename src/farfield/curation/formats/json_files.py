"""Read JSON files that a user gives as annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farfield import untrusted_json
from farfield.curation.text_files import read_text
from farfield.errors import FarfieldError


def read_json(path: Path, needed: str) -> Any:
    """Read a JSON file.

    Args:
        path: file to read.
        needed: last sentence of the error messages, such as "Give the export in the format JSON."

    Raises:
        FarfieldError: for a missing file, or a file that is not JSON.
    """
    return parse_json(read_text(path, needed), path, needed)


def parse_json(content: str, path: Path, needed: str) -> Any:
    """Parse the content of a JSON file. `path` and `needed` are for error messages, see `read_json`."""
    try:
        return untrusted_json.parse_json(content)
    except untrusted_json.JsonError as error:
        raise FarfieldError(f"{path} cannot be read: {error}. {needed}") from error
