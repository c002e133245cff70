"""Use private parts of jsonargparse, and parse its error messages.

`tests/options/test_jsonargparse_compat.py` has a test for each part. If a jsonargparse release changes a part, the
failing test names it. Tested with jsonargparse 4.48 to 4.53; older releases have other messages.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
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
        option: dotted name of the option, such as "model.optimisation.lr".
        given: the value, as text; empty if `unexpected_key` describes the mistake.
        must_be: description of the required type; None if `choices` or `unexpected_key` describes the mistake instead.
        choices: values that the option can have; empty if `must_be` or `unexpected_key` describes the mistake.
        unexpected_key: unknown key in the value of an option that is a mapping with fixed keys; otherwise None.
    """

    option: str
    given: str = ""
    must_be: str | None = None
    choices: tuple[str, ...] = ()
    unexpected_key: str | None = None


def refused_value(text: str) -> RefusedValue | None:
    """Parse a message about a value of the wrong type; return None for other messages.

    For an option that allows several types, jsonargparse lists for each type why the value does not fit. The result
    describes the types together, for example as "a whole number or null".
    """
    found = re.search(r'[Pp]arser key "([\w.]+)"', text)
    if found is None:
        return None
    option = found[1]
    inner = re.search(r"Expected a <class 'int'>\. Got value: (\S+) .*NestedArg\(key='([\w.]+)'", text)
    if inner:
        return RefusedValue(f"{option}.{inner[2]}", inner[1], "a whole number")
    single = re.search(r"[Pp]arser key \"[\w.]+\": Expected a <class 'int'>\. Got value: (.*?)\.?$", text)
    if single:
        return RefusedValue(option, single[1], "a whole number")
    integer_and_null = "<class 'int'>, <class 'NoneType'>|<class 'NoneType'>, <class 'int'>"  # by the version
    listed = re.search(r"Expected a <class 'tuple'>\. Got value: (\S+?)\.?(?: |$)", text)
    if listed:
        return RefusedValue(option, listed[1], f"a list, such as [{listed[1]}]")
    or_null = re.search(rf"Subtypes: \[(?:{integer_and_null})\] .*Given value: (.*?)\.?$", text)
    if or_null:
        return RefusedValue(option, or_null[1], "a whole number or null")
    number_and_null = "<class 'float'>, <class 'NoneType'>|<class 'NoneType'>, <class 'float'>"
    number = re.search(rf"Subtypes: \[(?:{number_and_null})\] .*Given value: (.*?)\.?$", text)
    if number:
        return RefusedValue(option, number[1], "a number or null")
    each = re.search(r"Subtypes: \[<class 'float'>, \S*Mapping\[str, float\]\] .*Given value: (.*?)\.?$", text)
    if each:
        return RefusedValue(option, each[1], "a number, or a number for each label, such as '{run: 1.0}'")
    keys = re.search(r"Unexpected keys: \{([^}]*)\}", text)
    if keys:
        return RefusedValue(option, unexpected_key=keys[1].split(",")[0].strip().strip("'"))
    choices = re.search(r"Expected a typing\.Literal\[(.*?)\]", text)
    given = re.search(r"(?:Given|Got) value: (.*?)\.?$", text)
    if choices and given:
        return RefusedValue(option, given[1], choices=tuple(re.findall(r"'([^']*)'", choices[1])))
    return None
