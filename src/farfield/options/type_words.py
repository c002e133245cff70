"""Describe the type of an option in words, for error messages."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

_ONE = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}
_EXAMPLES = {str: "text", float: "1.0", int: "1"}


def describe_type(hint: Any) -> str | None:
    """Describe what a value of a type looks like, such as "a list of 2 numbers, or null"; None for unknown types."""
    if hint in _ONE:
        return _ONE[hint]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        ordered = sorted(parts, key=lambda part: part is types.NoneType)
        choices = [repr(choice) for choice in literal_choices(hint)]
        others = [describe_type(part) for part in ordered if typing.get_origin(part) is not Literal]
        return _one_of([*choices, *others])
    if origin is Literal:
        return _one_of([repr(choice) for choice in parts])
    if origin is tuple and parts[-1] is not ...:
        return f"a list of {len(parts)} {_MANY[parts[0]]}" if len(set(parts)) == 1 and parts[0] in _MANY else None
    if isinstance(origin, type) and issubclass(origin, Mapping):
        of_names = f" of names to {_MANY[parts[1]]}" if parts[1] in _MANY else ""
        return f"a mapping{of_names}, such as {{name: {_EXAMPLES.get(parts[1], 'value')}}}"
    if isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset):
        return f"a list of {_MANY[parts[0]]}" if parts[0] in _MANY else "a list"
    return None


def is_list_type(hint: Any) -> bool:
    """Return whether a value of a type is a list, or may be null instead."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return all(is_list_type(part) for part in typing.get_args(hint) if part is not types.NoneType)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def literal_choices(hint: Any) -> tuple[str, ...]:
    """Return the texts that a type names as choices; () if it names none."""
    if typing.get_origin(hint) is Literal:
        return tuple(choice for choice in typing.get_args(hint) if isinstance(choice, str))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(choice for part in typing.get_args(hint) for choice in literal_choices(part))
    return ()


def _one_of(words: Sequence[str | None]) -> str | None:
    """Join descriptions by commas and "or"; return None if one of them is None."""
    known = [each for each in words if each is not None]
    if len(known) < len(words):
        return None
    *others, last = known
    if not others:
        return last
    is_simple = len(others) == 1 and not any("," in each or " or " in each for each in known)
    return f"{', '.join(others)}{'' if is_simple else ','} or {last}"
