"""Convert NumPy's numbers and arrays to Python's own types.

JSON files, and checkpoints apart from their tensors, hold Python's own types only. JSON cannot express NumPy's types. A
checkpoint is read without executing code from it, by `torch.load(weights_only=True)`, which refuses NumPy's types.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def plain(value: Any) -> Any:
    """Convert numbers, arrays, tuples and mappings to Python's numbers, lists and dicts, at every level of nesting.

    Other values are returned unchanged.
    """
    if isinstance(value, Mapping):
        return {plain_number(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if getattr(value, "ndim", 0) > 0 and hasattr(value, "tolist"):
        return plain(value.tolist())
    return plain_number(value)


def plain_number(value: Any) -> Any:
    """Convert a NumPy number, or a Boolean of NumPy, to Python's; return any other value unchanged."""
    if type(value) in (bool, int, float):
        return value
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    if type(value).__module__ == "numpy" and isinstance(value, numbers.Integral):
        return int(value)
    if type(value).__module__ == "numpy" and isinstance(value, numbers.Real):
        return float(value)
    return value


def make_fields_plain(options: Any) -> None:
    """Convert those fields of a dataclass instance that are NumPy numbers to Python's numbers, in place.

    The dataclass may be frozen. NumPy numbers inside of a list or dict are not converted.
    """
    for field in fields(options):
        object.__setattr__(options, field.name, plain_number(getattr(options, field.name)))
