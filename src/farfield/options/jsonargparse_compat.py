"""Use private parts of jsonargparse, and parse its error messages.

`tests/options/test_jsonargparse_compat.py` has a test for each part. If a jsonargparse release changes a part, the
failing test names it. Tested with jsonargparse 4.48 to 4.53; older releases have other messages.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import jsonargparse
from jsonargparse import _typehints

_LARGEST_EXACT = 2**53
"""A float64 can represent every integer up to this one exactly."""


@contextmanager
def accept_whole_floats() -> Iterator[None]:
    """Accept 16.0 as 16 wherever an option or config value must be an integer, because sweeps write floats.

    A value whose type also allows a float or a string is not changed: for Lightning's limit_val_batches, 1.0 means all
    batches and 1 means one batch.

    jsonargparse has no such setting, so its private function that checks a value against a type is wrapped.
    """
    original, may_be_other = _typehints.adapt_typehints, False

    def adapt(value: Any, typehint: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal may_be_other
        before = may_be_other
        if typehint is int and not may_be_other:
            value = _as_integer(value)
        if parts := typing.get_args(typehint):
            is_union = typing.get_origin(typehint) in (typing.Union, types.UnionType)
            may_be_other = is_union and bool({float, str} & set(parts))
            if is_union and {int, float} <= set(parts) and all(isinstance(part, type) for part in parts):
                # int first, so that 1 stays whole. Python caches Union[int, float] and Union[float, int] as one, in the
                # order in which a process has first made it.
                typehint = reduce(or_, sorted(parts, key=lambda part: part is float))
        try:
            return original(value, typehint, *args, **kwargs)
        finally:
            may_be_other = before

    _typehints.adapt_typehints = adapt  # type: ignore[assignment]
    try:
        yield
    finally:
        _typehints.adapt_typehints = original


def _as_integer(value: Any) -> Any:
    """Convert a float, or a string that holds one, to int if the result is exact; return any other value unchanged."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
    elif isinstance(value, float):
        number = value
    else:
        return value
    return int(number) if number.is_integer() and abs(number) <= _LARGEST_EXACT else value


def option_names(parser: jsonargparse.ArgumentParser) -> list[str]:
    """List a parser's options and positional arguments, without --help, --config and --print_config.

    argparse has no public list of a parser's arguments. `_actions` is a private list that has existed since Python 2.7.
    """
    names = [action.dest for action in parser._actions]
    return [name for name in names if not re.search(r"(^|\.)(help|config|print_\w+)$", name)]


def required_options(parser: jsonargparse.ArgumentParser) -> list[str]:
    """List the names of the required options and positional arguments."""
    return [action.dest for action in parser._actions if action.required]


def one_line(message: str) -> str:
    """Join a message's lines into one. Remove the prefix that jsonargparse adds if linking two arguments fails."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    return re.sub(r"^Call to compute_fn of link .*? failed: ", "", text)


def is_about_words(text: str) -> bool:
    """Return whether a message reports unrecognised arguments, missing arguments, or an option without a value.

    A common cause is a file name that starts with "-".
    """
    return bool(
        re.search(r"[Uu]nrecognized arguments|expected (one|at least one) argument|arguments are required", text)
    )


def expects_value(text: str) -> bool:
    """Return whether the error message `text` reports an option that is given without a value after it."""
    return bool(re.search(r"expected (one|at least one) argument", text))


def unknown_option(text: str) -> str | None:
    """Return the unknown option, such as "model.optimisation.lr", that `text` reports; None for other messages."""
    unknown = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text) or re.search(
        r"[Uu]nrecognized arguments: --([\w.-]+)"
        r"|does not accept option '([\w.]+)'"
        r"|Option '([\w.]+)' is not accepted"
        r"|Key '([\w.]+)' is not",
        text,
    )
    return ".".join(part for part in unknown.groups() if part) if unknown else None


def surplus_word(text: str) -> str | None:
    """Return the first argument that the error message `text` reports as unrecognised.

    Return None if there is no such argument, or if it starts with "-".
    """
    surplus = re.search(r"[Uu]nrecognized arguments: ([^-\s]\S*)", text)
    return surplus[1] if surplus else None


def missing_value(text: str) -> str | None:
    """Return the option that the message `text` reports as None although it needs a value; None for other messages."""
    missing = re.search(r'[Pp]arser key "([\w.]+)": Expected a .* Got value: None$', text)
    return missing[1] if missing else None


def error_in_group(text: str) -> tuple[str, str] | None:
    """Return (option, mistake) from an error message about an option that takes true, false or a group of options.

    Return None for other messages. jsonargparse reports first why the value is not a valid group, then why it is not
    true or false. The mistake is the first of these two reasons.
    """
    found = re.search(
        r"[Pp]arser key \"(\w+)\": Does not validate against any of the Union subtypes "
        r"Subtypes: \[[^]]*<class 'bool'>\] Errors: - (.*) - Expected a <class 'bool'> Given value",
        text,
    )
    return (found[1], found[2]) if found else None


@dataclass(frozen=True)
class RefusedValue:
    """A value that does not fit its option's type.

    Attributes:
        option: dotted name of the option or of a key in its value, such as "model.optimisation.lr".
        given: the value, as text; empty if `unexpected_key` describes the mistake.
        may_be_element: whether `given` may be a part of the value, such as one element of a list; jsonargparse does not
            say so.
        unexpected_key: unknown key in the value of an option that is a mapping with fixed keys; otherwise None.
    """

    option: str
    given: str = ""
    may_be_element: bool = False
    unexpected_key: str | None = None


def refused_value(text: str) -> RefusedValue | None:
    """Parse a message about a value of the wrong type; return None for other messages."""
    found = re.search(r'[Pp]arser key "([\w.]+)"', text)
    if found is None:
        return None
    option = found[1]
    keys = re.search(r"Unexpected keys: \{([^}]*)\}", text)
    if keys:
        return RefusedValue(option, unexpected_key=keys[1].split(",")[0].strip().strip("'"))
    nested = re.search(r"NestedArg\(key='([\w.]+)', val=(.*?)\)\.?$", text)
    if nested:
        return RefusedValue(f"{option}.{nested[1]}", _unquoted(nested[2]))
    of_union = re.search(r".*Given value: (.*?)\.?$", text)
    if of_union:
        return RefusedValue(option, of_union[1])
    single = re.search(r"Expected a (.*)\. Got value: (.*?)\.?$", text)
    if single is None:
        return None
    return RefusedValue(option, single[2], may_be_element=single[1] not in ("<class 'list'>", "<class 'tuple'>"))


def _unquoted(text: str) -> str:
    """Return the text that a Python string literal stands for, and any other text as it is."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def option_type(parser: jsonargparse.ArgumentParser, option: str) -> Any:
    """Return the type of an option, or of a key in the value of an option; None if it is unknown.

    jsonargparse has no public way to find an option's type. It is in the private attribute `_typehint` of the action.

    Args:
        parser: parser that has the option.
        option: dotted name. What follows the option's own name are keys of its dataclass or typed dict.
    """
    actions = {action.dest: action for action in parser._actions}
    name, keys = option, list[str]()
    while name and name not in actions:
        name, _, key = name.rpartition(".")
        keys.insert(0, key)
    if not name:
        return None
    hint = getattr(actions[name], "_typehint", actions[name].type)
    for key in keys:
        fields: dict[str, Any] = {}
        for part in typing.get_args(hint) or (hint,):
            if isinstance(part, type) and part is not types.NoneType:
                with suppress(NameError, TypeError):  # of classes that import types only for a type checker
                    fields |= typing.get_type_hints(part)
        hint = fields.get(key)
    return hint
