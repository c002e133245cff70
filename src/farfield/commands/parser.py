"""Options from a function's parameters, and errors that name the nearest option."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import docstring_parser
import jsonargparse

from farfield.clip_spec import ClipOptions
from farfield.errors import FarfieldError, nearest


class CommandParser(jsonargparse.ArgumentParser):
    """Mistakes become `FarfieldError`s, which the command line prints without a traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Without abbreviations: a mistyped option must not pass for the one that it happens to begin.
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        options = [action.dest for action in self._actions if action.dest not in ("help", "config", "print_config")]
        raise FarfieldError(explain(message, options)) from ex


def parse(
    function: Callable[..., int], arguments: Sequence[str], *, prog: str, positionals: Mapping[str, str | None]
) -> dict[str, Any]:
    """Returns keyword arguments for a command's function.

    Args:
        function: its parameters become options, its docstring their help.
        arguments: what was typed after the command's name.
        prog: the command's name, for its help.
        positionals: parameters that are given without a name, to argparse's nargs.

    Raises:
        FarfieldError: for an option that is unknown or missing, or a value of another type.
    """
    summary = (function.__doc__ or "").split("Args:")[0]
    parser = CommandParser(prog=prog, description=summary)
    types = typing.get_type_hints(function)
    described = {param.arg_name: param.description for param in docstring_parser.parse(function.__doc__ or "").params}
    for name, nargs in positionals.items():
        extra: dict[str, Any] = {} if nargs is None else {"nargs": nargs}
        parser.add_argument(name, type=str if nargs else types[name], help=described[name], **extra)
    parser.add_function_arguments(function, as_group=False, skip=set(positionals))
    flags = {f"--{name}" for name, kind in types.items() if kind is bool}
    words = [
        f"{word}=true" if word in flags and following not in ("true", "false") else word
        for word, following in zip(arguments, [*arguments[1:], None], strict=False)
    ]
    return vars(parser.instantiate_classes(parser.parse_args(words)))


def explain(message: str, options: Sequence[str]) -> str:
    """Puts a parser's message on one line, and adds the nearest option where one is unknown."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    text = re.sub(r"^Call to compute_fn of link .*? failed: ", "", text)
    unknown = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text)
    if unknown:
        return f"there is no option {unknown[1]}.{unknown[2]!s}. {nearest(f'{unknown[1]}.{unknown[2]}', options)}"
    unknown = re.search(
        r"[Uu]nrecognized arguments: --([\w.-]+)|does not accept option '([\w.]+)'|Key '([\w.]+)' is not", text
    )
    if unknown:
        name = next(part for part in unknown.groups() if part)
        return f"there is no option {name}. {nearest(name, options)}"
    return _explain_value(text) or text.removesuffix(".") + ". See --help."


def _explain_value(text: str) -> str | None:
    """What a value of several possible types was refused for, without the parser's account of each type."""
    key = re.search(r'[Pp]arser key "([\w.]+)"', text)
    if key is None:
        return None
    surplus = re.search(r"Unexpected keys: \{([^}]*)\}", text)
    if surplus and key[1].rpartition(".")[2] == "clip":
        name = surplus[1].split(",")[0].strip().strip("'")
        return f"{key[1]} has no {name!r}. {nearest(name, ClipOptions.__annotations__)}"
    choices = re.search(r"Expected a typing\.Literal\[(.*?)\]", text)
    given = re.search(r"(?:Given|Got) value: (.*?)\.?$", text)
    if choices and given:
        known = re.findall(r"'([^']*)'", choices[1])
        return f"{key[1]} is {given[1]!r}. {nearest(given[1], known)}"
    return None
