"""Take 16.0 for 16 where an option is a whole number: sweeps write it so.

jsonargparse has no setting for it, and its function that checks a value against a type is private: this file is the one
place that touches it.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import _typehints

_LARGEST = 2**53
"""Above, not every whole number is a float."""


@contextmanager
def accept_whole_floats() -> Iterator[None]:
    """Within, parsers take a float that is whole for an int, at any depth of an option or a config.

    What may be a float or text, too, is left alone: of Lightning's limit_val_batches, 1.0 is all and 1 is one batch.
    """
    original, of_others = _typehints.adapt_typehints, False

    def adapt(value: Any, typehint: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal of_others
        before = of_others
        if typehint is int and not of_others:
            value = _as_int(value)
        if parts := typing.get_args(typehint):
            is_union = typing.get_origin(typehint) in (typing.Union, types.UnionType)
            of_others = is_union and bool({float, str} & set(parts))
        try:
            return original(value, typehint, *args, **kwargs)
        finally:
            of_others = before

    _typehints.adapt_typehints = adapt  # type: ignore[assignment]
    try:
        yield
    finally:
        _typehints.adapt_typehints = original


def _as_int(value: Any) -> Any:
    """A whole number as int, whatever else as it is."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
    elif isinstance(value, float):
        number = value
    else:
        return value
    return int(number) if number.is_integer() and abs(number) <= _LARGEST else value
