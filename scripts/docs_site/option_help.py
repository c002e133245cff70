"""Read the options of a command from its help, as `farfield COMMAND --help` prints it."""

from __future__ import annotations

import ast
import io
import os
import re
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from unittest.mock import patch

from farfield.cli import COMMANDS, main

_WIDE = "100000"
"""Columns of the terminal, so that the text of an option stays on one line."""
_NAMED = re.compile(
    r"^  (?:-\w(?: \S+)?, )?(?P<words>--[\w.]+|[a-z]\w*|\{\S+\})(?P<values>(?: \S+)*?)(?:  +(?P<text>\S.*))?$"
)
_DETAILS = re.compile(
    r" ?\((?P<required>required, )?type: (?P<type>(?:(?! \((?:required, )?type: ).)*?)"
    r"(?:, default: (?P<default>.*))?\)$"
)


@dataclass(frozen=True)
class Option:
    """Option or positional argument of a command.

    Attributes:
        name: name without dashes, with its groups, such as `model.optimisation.lr`.
        positional: whether the name is left out on the command line.
        required: whether it must be given.
        type: type in the words of a user, such as `int | null`; empty if unknown.
        default: default value as the help shows it; None if there is none.
        text: help text.
    """

    name: str
    positional: bool
    required: bool
    type: str
    default: str | None
    text: str


@dataclass(frozen=True)
class Help:
    """Help of a command: its description, and its options in their order."""

    description: str
    options: list[Option]


def read_help(command: str, flag: str = "--help") -> Help:
    """Read the help of a command.

    Args:
        command: words of the command, such as `data index`.
        flag: option that prints the help, such as `--model.clip.help` for the keys of that option.
    """
    return parse_help(_printed([*command.split(), flag]), list(COMMANDS[command].positionals))


def parse_help(text: str, positionals: Sequence[str] = ()) -> Help:
    """Parse a help text of argparse that was written for a wide terminal.

    Args:
        text: the help text.
        positionals: names of the positional arguments, since the help shows the choices of some instead.
    """
    description, _, rest = text.partition("\n\n")[2].partition("\n\n")
    options: list[Option] = []
    names = iter(positionals)
    lines = iter(rest.partition("\nLinked arguments:")[0].splitlines())
    for line in lines:
        found = _NAMED.match(line)
        if found is None:
            continue
        is_positional = not found["words"].startswith("--")
        name = next(names) if is_positional else found["words"].removeprefix("--")
        words = found["text"] or next(lines).strip()
        if name == "help" or name.endswith(".help") or words == "Path to a configuration file.":
            continue
        details = _DETAILS.search(words)
        options.append(
            Option(
                name=name,
                positional=is_positional,
                required=bool(details and details["required"]),
                type=readable_type(details["type"]) if details else "",
                default=_readable_default(details["default"]) if details else None,
                text=words[: details.start()] if details else words,
            )
        )
    return Help(description, options)


def readable_type(text: str) -> str:
    """Write a type without Python's `Optional`, `Union` and `Literal`: `Optional[int]` as `int | null`."""
    text = re.sub(r"one or more (\w+)", r"list[\1]", text)  # what the help says for a list
    try:
        return _written(ast.parse(text, mode="eval").body)
    except SyntaxError:  # words, such as "name=value,... | null"
        return text


def _written(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):
        return f"{_written(node.left)} | {_written(node.right)}"
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
        return ast.unparse(node)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if node.value.id == "Literal":
        return " | ".join(str(ast.literal_eval(each)) for each in inner)
    if node.value.id in ("Optional", "Union"):
        return " | ".join([*map(_written, inner), *["null"][: node.value.id == "Optional"]])
    return f"{node.value.id}[{', '.join('...' if ast.unparse(each) == '...' else _written(each) for each in inner)}]"


def _readable_default(text: str | None) -> str | None:
    """Write a default as in YAML, without jsonargparse's list of classes that the option could also have."""
    if text is None:
        return None
    text = text.partition(", known subclasses: ")[0]
    return {"True": "true", "False": "false"}.get(text, text)


def _printed(words: list[str]) -> str:
    printed = io.StringIO()
    with patch.dict(os.environ, {"COLUMNS": _WIDE, "NO_COLOR": "1"}), redirect_stdout(printed), suppress(SystemExit):
        main(words)
    return printed.getvalue()
