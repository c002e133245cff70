"""Derive command-line options from a function's parameters, and name the nearest option in error messages."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn, TypeVar

import docstring_parser
import jsonargparse

from farfield.clip_spec import ClipOptions
from farfield.curation.folder_scan import has_video_suffix
from farfield.errors import FarfieldError, nearest
from farfield.options.jsonargparse_compat import (
    accept_whole_floats,
    error_in_group,
    expects_value,
    is_about_words,
    missing_value,
    one_line,
    option_names,
    refused_value,
    required_options,
    surplus_word,
    unknown_option,
)
from farfield.recipes import find_config

Command = TypeVar("Command", bound=Callable[..., int])


class CommandParser(jsonargparse.ArgumentParser):
    """Argument parser that raises a user's mistake as a `FarfieldError`, which is printed without a traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # No abbreviations: a mistyped option must not be taken for another that starts with it.
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.words: Sequence[str] = ()
        """The arguments being parsed, for error messages."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        with accept_whole_floats():
            return super().parse_args(*args, **kwargs)

    def parse_object(self, *args: Any, **kwargs: Any) -> Any:
        with accept_whole_floats():
            return super().parse_object(*args, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Format the help. Python's `str | Path` and `None` are replaced by what a user types: str and null."""
        text = re.sub(r"Union\[str,\s+Path,\s+null\]", "str | null", super().format_help(*args, **kwargs))
        text = re.sub(r"Optional\[dict\[str,\s+str\]\]", "name=value,... | null", text)
        text = re.sub(r"Optional\[list\[(\w+)\]\]|list\[(\w+)\]", r"one or more \1\2", text)
        return re.sub(r"\bNone\b", "null", re.sub(r"str\s+\|\s+Path", "str", text))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        explained = file_hint(message, self.words) or explain(message, option_names(self), required_options(self))
        raise FarfieldError(explained) from ex


class ConfigAction(jsonargparse.ActionConfigFile):
    """Action of `--config`, which takes a file or the name of a recipe that ships with farfield."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        path = find_config(values)
        try:
            super().__call__(parser, cfg, path, option_string)
        except UnicodeDecodeError as error:
            raise FarfieldError(
                f"config is {path}, which is not a text file. Give a YAML file or the name of a recipe."
            ) from error


NO_OPTIONS = {"progress"}
"""Parameters of library functions that do not become options; commands leave them at their defaults."""

_LIBRARY_FUNCTIONS: dict[Callable[..., int], tuple[Callable[..., Any], set[str]]] = {}
"""Library function that each command runs, and the names of the function's parameters that the command replaces."""


def runs(function: Callable[..., Any], *, replaced: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Declare the library function that a command runs.

    The function's parameters become options of the command, and its docstring becomes the help. The command receives
    the options as `**options`. A command that needs the value of one of these options declares a parameter of the same
    name. A command can also declare options of its own:

        @runs(write_subset)
        def subset(*, json: bool = False, **options: Any) -> int: ...

    Args:
        function: the library function.
        replaced: names of the function's parameters that do not become options, because the command has its own
            parameters for them.
    """

    def declare(command: Command) -> Command:
        _LIBRARY_FUNCTIONS[command] = function, set(replaced)
        return command

    return declare


def parse(
    command: Callable[..., int], arguments: Sequence[str], *, prog: str, positionals: Mapping[str, str | None]
) -> dict[str, Any]:
    """Parse a command's arguments into keyword arguments for its function.

    Args:
        command: function whose parameters become options, and whose docstring becomes the help. If the command declares
            a library function by `runs`, that function's parameters become options, too, and its docstring introduces
            the help.
        arguments: words after the command's name.
        prog: name of the command, for its help.
        positionals: argparse's nargs of each positional parameter, by name; None for exactly one value.

    Raises:
        FarfieldError: for an unknown or missing option, or a value of the wrong type.
    """
    library, replaced = _LIBRARY_FUNCTIONS.get(command, (None, set()))
    functions = [command] if library is None else [library, command]
    parser = CommandParser(prog=prog, description=(functions[0].__doc__ or "").split("Args:")[0])
    types: dict[str, Any] = {}
    described: dict[str, str | None] = {}
    declarations: list[Callable[..., Any]] = []
    for function in functions:
        hidden = {*replaced, *NO_OPTIONS} if function is library else set()
        declared = _declaration(function, hidden, drop_kwargs=library is not None)
        declarations.append(declared)
        types |= typing.get_type_hints(declared)
        params = docstring_parser.parse(function.__doc__ or "").params
        described |= {param.arg_name: param.description for param in params}
    for name, nargs in positionals.items():
        extra: dict[str, Any] = {} if nargs is None else {"nargs": nargs}
        parser.add_argument(name, type=str if nargs else types[name], help=described[name], **extra)
    taken: set[str | int] = set(positionals)
    for declared in declarations:
        parser.add_function_arguments(declared, as_group=False, skip=taken)
        taken |= set(inspect.signature(declared).parameters)
    parser.words = arguments
    arguments = files_after_dashes(arguments)
    lists = {f"--{name}": "float" in str(kind) for name, kind in types.items() if _is_list(kind)}
    arguments = _join_lists(arguments, lists)
    given_lists = [word for word in arguments if word in lists]
    mappings = {f"--{name}" for name, kind in types.items() if "dict[str, str]" in str(kind)}
    arguments = _join_mappings(arguments, mappings)
    flags = {f"--{name}" for name, kind in types.items() if kind is bool}
    words = [
        f"{word}=true" if word in flags and following not in ("true", "false") else word
        for word, following in zip(arguments, [*arguments[1:], None], strict=False)
    ]
    try:
        return vars(parser.instantiate(parser.parse_args(words)))
    except FarfieldError as error:
        if not given_lists or not positionals:
            raise
        message = str(error).removesuffix("See --help.").strip()
        raise FarfieldError(f"{message} {_after(given_lists[0])}") from error


def _declaration(function: Callable[..., Any], hidden: set[str], *, drop_kwargs: bool) -> Callable[..., Any]:
    """Return a function that has `function`'s docstring, and only the parameters that become options.

    The types of the parameters are resolved here. Otherwise jsonargparse would run the module's TYPE_CHECKING block to
    resolve them, which imports more than `--help` needs. A function that passes its `**kwargs` on is returned
    unchanged, because jsonargparse reads its source code.

    Args:
        function: a command, or the library function that it runs.
        hidden: names of parameters that do not become options. Their types may be imported for type checkers only.
        drop_kwargs: leave out `**kwargs`, because they are the parameters of the library function.
    """
    signature = inspect.signature(function)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds and not drop_kwargs:
        return function
    shown = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in hidden and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    resolved = FunctionType(function.__code__, function.__globals__, function.__name__)
    resolved.__annotations__ = {name: function.__annotations__[name] for name in shown}
    resolved.__annotations__ = typing.get_type_hints(resolved)
    resolved.__doc__, resolved.__module__ = function.__doc__, function.__module__
    # Not the function's own name: jsonargparse looks for it in `farfield`, whose public names import on first use.
    resolved.__qualname__ = f"options_of_{function.__name__}"
    parameters = [shown[name].replace(annotation=kind) for name, kind in resolved.__annotations__.items()]
    resolved.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return resolved


def _after(option: str) -> str:
    return f"All words after {option} are its values: put files before it."


def _is_list(kind: Any) -> bool:
    """Return whether an annotation is a list, or a list or None."""
    kinds = [each for each in typing.get_args(kind) or [kind] if each is not type(None)]
    return typing.get_origin(kind) is list or (len(kinds) == 1 and typing.get_origin(kinds[0]) is list)


def _join_lists(words: Sequence[str], lists: Mapping[str, bool]) -> list[str]:
    """Join the values of each list option into one JSON list: `--fractions 0.7 0.3` becomes `--fractions [0.7, 0.3]`.

    Values that are JSON lists already are not changed, and neither is null.

    Args:
        words: the command's arguments.
        lists: for each option that takes a list, whether it takes numbers.

    Raises:
        FarfieldError: for a word that is not a number, if the option takes numbers.
    """
    joined: list[str] = []
    rest = list(words)
    while rest:
        joined.append(rest.pop(0))
        if joined[-1] not in lists or not rest or rest[0] == "null" or rest[0].startswith("["):
            continue
        end = next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))
        if not all(map(_is_number, rest[:end])) and lists[joined[-1]]:
            raise FarfieldError(
                f"{joined[-1].removeprefix('--')} is {' '.join(rest[:end])!r}; "
                f"it must be a list of numbers. {_after(joined[-1])}"
            )
        if end:
            joined.append("[" + ", ".join(word if _is_number(word) else json.dumps(word) for word in rest[:end]) + "]")
            del rest[:end]
    return joined


def _join_mappings(words: Sequence[str], mappings: set[str]) -> list[str]:
    """Convert the value of each mapping option to JSON: for example `path=file,label=action` after `--columns`.

    Values that are JSON already are not changed, and neither is null.
    """
    joined: list[str] = []
    for previous, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if option in mappings and equals:
            joined.append(f"{option}={_mapping_as_json(option, value)}")
        elif previous in mappings and not word.startswith("--"):
            joined.append(_mapping_as_json(previous, word))
        else:
            joined.append(word)
    return joined


def _mapping_as_json(option: str, text: str) -> str:
    if text == "null":
        return text
    mapping = _read_mapping(text)
    if not mapping or not all(isinstance(value, str) and name and value for name, value in mapping.items()):
        raise FarfieldError(
            f"{option.removeprefix('--')} is {text!r}; it must be name=value pairs separated by commas, each name "
            f'once, such as {option} a=b,c=d. If a value contains a comma, write JSON: {option} \'{{"a": "b, c"}}\'.'
        )
    return json.dumps(mapping)


def _read_mapping(text: str) -> dict[str, Any] | None:
    """Read a JSON object or `name=value` pairs; return None for an invalid JSON object, or pairs with a name twice."""
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            return None
    pairs = [[part.strip() for part in pair.partition("=")] for pair in text.split(",")]
    mapping = {name: value for name, _, value in pairs}
    return mapping if len(mapping) == len(pairs) else None


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", word) is not None


def files_after_dashes(words: Sequence[str]) -> Sequence[str]:
    """Remove `--`, and put `./` before later file names that start with `-`, so that they are not read as options."""
    if "--" not in words:
        return words
    end = words.index("--")
    return [*words[:end], *(f"./{word}" if re.match("-.", word) else word for word in words[end + 1 :])]


def file_hint(message: str, words: Sequence[str]) -> str | None:
    """Explain how to give a file whose name starts with `-` and was read as an option; None for other mistakes."""
    if not is_about_words(message):
        return None
    if "--" in words:
        surplus = [word for word in words[words.index("--") :] if re.match("--.", word)]
        if surplus:
            return f"{surplus[0]} comes after --, so it is read as a file. Put options before --, and files after it."
        return None
    for word in words:
        short = re.match(r"-[^-]", word) and not re.fullmatch(r"-[\d.e+-]+", word)
        if short or (word.startswith("--") and (has_video_suffix(word) or Path(word).exists())):
            apart = "" if expects_value(message) else ", or put all options first, then --, then the files"
            return f"{word} is not an option. If it is a file, write ./{word}{apart}. See --help."
    return None


def explain(message: str, options: Sequence[str], required: Sequence[str] = ()) -> str:
    """Rewrite a parser's error message as one line that names the nearest known option or the missing option."""
    text = one_line(message)
    if inside := error_in_group(text):
        return _explain_in_group(*inside)
    if name := unknown_option(text):
        if name in options:  # it is positional
            return f"{name} is a positional argument, not an option. See --help."
        return f"there is no option {name}. {nearest_option(name, options)}"
    if surplus := surplus_word(text):
        return f"{surplus} is unexpected. Put all files together, before or after all options. See --help."
    missing = missing_value(text)
    if missing in required:
        *others, last = (f"--{name}" for name in required)
        return f"{missing} is missing. Give --config, or {', '.join(others)} and {last}."
    return _explain_value(text) or text.removesuffix(".") + ". See --help."


def _explain_in_group(group: str, message: str) -> str:
    """Add the group's name to the option's name in an error message, and explain the mistake."""
    if "arser key" in message:
        named = re.sub(r'([Pp]arser key ")', rf"\g<1>{group}.", message)
        return _explain_value(named) or named
    return re.sub(r"^(there is no option )?(?=\w)", rf"\g<1>{group}.", message, count=1)


def nearest_option(given: str, options: Sequence[str]) -> str:
    """Suggest the known option that is nearest to `given`; "lr" finds "model.optimisation.lr".

    First, the last parts of the names (after the last dot) are compared: candidates are the options with the most
    similar last part, or else the options whose last part contains the last part of `given`. If there are none,
    candidates are the options with a similar full name. Of several candidates, the one with the most similar full name
    is suggested.
    """

    def likeness(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio()

    def last(name: str) -> str:
        return name.rpartition(".")[2]

    near = max((likeness(last(given), last(option)) for option in options), default=0.0)
    found = [option for option in options if near >= 0.6 and likeness(last(given), last(option)) == near]
    found = found or [option for option in options if last(given).casefold() in last(option).casefold()]
    found = found or [option for option in options if likeness(given, option) >= 0.6]
    meant = [f"Did you mean {max(found, key=lambda option: likeness(given, option))!r}?"] if found else []
    if len(options) <= 30:
        return " ".join([f"Known: {', '.join(options)}.", *meant])
    return meant[0] if meant else "See --help."


def _explain_value(text: str) -> str | None:
    """Explain an error message about a value of the wrong type, in few words; None for other messages."""
    refused = refused_value(text)
    if refused is None:
        return None
    if refused.must_be:
        return f"{refused.option} is {refused.given}; it must be {refused.must_be}."
    if refused.choices:
        return f"{refused.option} is {refused.given!r}. {nearest(refused.given, refused.choices)}"
    if refused.unexpected_key and refused.option.rpartition(".")[2] == "clip":
        hint = nearest(refused.unexpected_key, ClipOptions.__annotations__)
        return f"{refused.option} has no {refused.unexpected_key!r}. {hint}"
    return None
