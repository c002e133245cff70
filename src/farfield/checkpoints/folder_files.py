"""Read the files of a folder that holds a network: JSON and safetensors. Neither can run code."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.untrusted_json import JsonError, parse_json


def read_json_object(path: Path, *, remedy: str) -> dict[str, Any]:
    """Read a JSON object from an untrusted file. Arguments are those of `read_json`.

    Raises:
        FarfieldError: if the file cannot be read or holds no object.
    """
    content = read_json(path, remedy=remedy)
    if not isinstance(content, dict):
        raise FarfieldError(f"{path} holds no JSON object. {remedy}")
    return content


def read_json(path: Path, *, remedy: str) -> Any:
    """Read the JSON of an untrusted file.

    Args:
        path: file to read.
        remedy: last sentence of each error message, which says what to do with a damaged file.

    Raises:
        FarfieldError: if the file cannot be read.
    """
    try:
        return parse_json(path.read_bytes())
    except JsonError as error:
        raise FarfieldError(f"{path} cannot be read: {error}. {remedy}") from error
    except OSError as error:
        raise FarfieldError(f"{path} cannot be read: {error.strerror}. {remedy}") from error


def read_safetensors(path: Path, *, remedy: str) -> dict[str, Tensor]:
    """Read tensors by name from an untrusted safetensors file.

    Args:
        path: file to read.
        remedy: last sentence of each error message, which says what to do with a damaged file.

    Raises:
        FarfieldError: if the file cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise FarfieldError(
            f"{path} cannot be read: it is damaged, truncated, or not a safetensors file. {remedy}"
        ) from error
