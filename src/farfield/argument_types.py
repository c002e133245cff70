"""Check the types of arguments, for functions that users call from Python.

The command line has checked them already. This file does not import PyTorch: `--help` must stay fast.
"""

from __future__ import annotations

import inspect
import numbers
import os
import reprlib
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from farfield.errors import FarfieldError

P = ParamSpec("P")
R = TypeVar("R")

_KINDS: dict[str, Callable[[object], bool]] = {
    "int": lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"),  # NumPy's, too
    "str": lambda value: isinstance(value, str),
    "Path": lambda value: isinstance(value, os.PathLike),
    "None": lambda value: value is None,
}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "text",
    "Path": "a path",
    "None": "None",
}


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that it raises a `FarfieldError` for an argument of a wrong type.

    Only parameters whose annotation names nothing but int, float, bool, str, Path and None are checked. NumPy's numbers
    count as Python's. The function's module must have `from __future__ import annotations`, since the annotations are
    read as text.
    """
    signature = inspect.signature(function)
    kinds = {name: str(parameter.annotation).split(" | ") for name, parameter in signature.parameters.items()}
    checked = {name: parts for name, parts in kinds.items() if all(part in _KINDS for part in parts)}

    @wraps(function)
    def with_check(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # for example an unknown name, of which Python's own message names the function, too
            return function(*args, **kwargs)
        for name, value in given.items():
            if name in checked and not any(_KINDS[part](value) for part in checked[name]):
                raise FarfieldError(f"{name} is {reprlib.repr(value)}; it must be {_words(checked[name])}.")
        return function(*args, **kwargs)

    return with_check


def _words(parts: list[str]) -> str:
    return " or ".join(_WORDS[part] for part in parts if not (part == "str" and "Path" in parts))
