"""Options from a function's parameters, and errors that name the nearest option."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import docstring_parser
import jsonargparse

from farfield.clip_spec import ClipOptions
from farfield.curation.folder_scan import has_video_suffix
from farfield.errors import FarfieldError, nearest
from farfield.options.integer_options import accept_whole_floats
from farfield.recipes import find_config

Command = TypeVar("Command", bound=Callable[..., int])


class CommandParser(jsonargparse.ArgumentParser):
    """Mistakes become `FarfieldError`s, which the command line prints without a traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Without abbreviations: a mistyped option must not pass for the one that it happens to begin.
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.words: Sequence[str] = ()
        """What is parsed, for messages."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        with accept_whole_floats():
            return super().parse_args(*args, **kwargs)

    def parse_object(self, *args: Any, **kwargs: Any) -> Any:
        with accept_whole_floats():
            return super().parse_object(*args, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Write Python's `str | Path` and `None`, from signatures and docstrings, as what is typed: str and null."""
        text = re.sub(r"Union\[str,\s+Path,\s+null\]", "str | null", super().format_help(*args, **kwargs))
        return re.sub(r"\bNone\b", "null", re.sub(r"str\s+\|\s+Path", "str", text))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        names = [action.dest for action in self._actions]
        options = [name for name in names if not re.search(r"(^|\.)(help|config|print_\w+)$", name)]
        required = [action.dest for action in self._actions if action.required]
        explained = file_hint(message, self.words) or explain(message, options, required)
        raise FarfieldError(explained) from ex


class ConfigAction(jsonargparse.ActionConfigFile):
    """`--config` with a file, or with the name of a recipe that ships with farfield."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, cfg, find_config(values), option_string)


NO_OPTIONS = {"progress"}
"""Parameters of library functions that commands leave at their defaults."""

_LIBRARY_FUNCTIONS: dict[Callable[..., int], Callable[..., Any]] = {}


def runs(function: Callable[..., Any]) -> Callable[[Command], Command]:
    """Declare the library function that a command runs.

    The function's parameters become options of the command, and its docstring the help. The command takes them as
    `**options`, names those that it needs itself, and adds options of its own:

        @runs(write_subset)
        def subset(*, json: bool = False, **options: Any) -> int: ...
    """

    def declare(command: Command) -> Command:
        _LIBRARY_FUNCTIONS[command] = function
        return command

    return declare


def parse(
    command: Callable[..., int], arguments: Sequence[str], *, prog: str, positionals: Mapping[str, str | None]
) -> dict[str, Any]:
    """Parse a command's arguments into keyword arguments for its function.

    Args:
        command: function whose parameters become options, and whose docstring becomes the help; both come from the
            library function first if the command declares one by `runs`.
        arguments: words after the command's name.
        prog: name of the command, for its help.
        positionals: positional parameters, to argparse's nargs.

    Raises:
        FarfieldError: for an unknown or missing option, or a value of the wrong type.
    """
    library = _LIBRARY_FUNCTIONS.get(command)
    functions = [command] if library is None else [library, command]
    parser = CommandParser(prog=prog, description=(functions[0].__doc__ or "").split("Args:")[0])
    types: dict[str, Any] = {}
    described: dict[str, str | None] = {}
    for function in reversed(functions):
        types |= typing.get_type_hints(function)
        params = docstring_parser.parse(function.__doc__ or "").params
        described |= {param.arg_name: param.description for param in params}
    for name, nargs in positionals.items():
        extra: dict[str, Any] = {} if nargs is None else {"nargs": nargs}
        parser.add_argument(name, type=str if nargs else types[name], help=described[name], **extra)
    skip: set[str | int] = set(positionals) if library is None else {*positionals, *NO_OPTIONS}
    for function in functions:
        parser.add_function_arguments(function, as_group=False, skip=skip)
        skip = skip | set(inspect.signature(function).parameters)
    parser.words = arguments
    arguments = files_after_dashes(arguments)
    flags = {f"--{name}" for name, kind in types.items() if kind is bool}
    words = [
        f"{word}=true" if word in flags and following not in ("true", "false") else word
        for word, following in zip(arguments, [*arguments[1:], None], strict=False)
    ]
    return vars(parser.instantiate_classes(parser.parse_args(words)))


def files_after_dashes(words: Sequence[str]) -> Sequence[str]:
    """Rewrite what follows `--`, which no option may follow, so that names beginning with `-` are plain: `./-a.mp4`."""
    if "--" not in words:
        return words
    end = words.index("--")
    return [*words[:end], *(f"./{word}" if re.match("-.", word) else word for word in words[end + 1 :])]


def file_hint(message: str, words: Sequence[str]) -> str | None:
    """What to write for a file whose name begins with `-` and was taken for an option; None where there is none."""
    if not re.search(r"[Uu]nrecognized arguments|expected (one|at least one) argument|arguments are required", message):
        return None
    if "--" in words:
        surplus = [word for word in words[words.index("--") :] if re.match("--.", word)]
        if surplus:
            return (
                f"{surplus[0]} stands after --, where all is taken for files. Put -- and the files after all options."
            )
        return None
    for word in words:
        short = re.match(r"-[^-]", word) and not re.fullmatch(r"-[\d.e+-]+", word)
        if short or (word.startswith("--") and (has_video_suffix(word) or Path(word).exists())):
            apart = "" if "expected" in message else ", or put -- before it, after all options"
            return f"{word} is no option. If it is a file, write ./{word}{apart}. See --help."
    return None


def explain(message: str, options: Sequence[str], required: Sequence[str] = ()) -> str:
    """Puts a parser's message on one line, adds the nearest option where one is unknown, and says what is missing."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    text = re.sub(r"^Call to compute_fn of link .*? failed: ", "", text)
    unknown = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text) or re.search(
        r"[Uu]nrecognized arguments: --([\w.-]+)|does not accept option '([\w.]+)'|Key '([\w.]+)' is not", text
    )
    if unknown:
        name = ".".join(part for part in unknown.groups() if part)
        if name in options:  # then it is one of those that stand first
            return f"{name} is given by its place, not as an option. See --help."
        return f"there is no option {name}. {nearest_option(name, options)}"
    surplus = re.search(r"[Uu]nrecognized arguments: ([^-\s]\S*)", text)
    if surplus:
        return f"{surplus[1]} is left over. Files stand together, before or after all options. See --help."
    missing = re.search(r'[Pp]arser key "([\w.]+)": Expected a .* Got value: None$', text)
    if missing and missing[1] in required:
        *others, last = (f"--{name}" for name in required)
        return f"{missing[1]} is missing. Give --config, or {', '.join(others)} and {last}."
    return _explain_value(text) or text.removesuffix(".") + ". See --help."


def nearest_option(given: str, options: Sequence[str]) -> str:
    """A hint like that of `nearest`, for options by groups: people remember an option's last part, rarely its groups.

    The option is taken whose last part is the given one's, or is near to it, or contains it; else the one that is
    nearest as a whole. Of several, it is the nearest as a whole.
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
    """What a value of several possible types was refused for, without the parser's account of each type."""
    key = re.search(r'[Pp]arser key "([\w.]+)"', text)
    if key is None:
        return None
    if whole := _explain_whole(text, key[1]):
        return whole
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


def _explain_whole(text: str, key: str) -> str | None:
    """For an option that is a whole number, in a group or by itself."""
    inner = re.search(r"Expected a <class 'int'>\. Got value: (\S+) .*NestedArg\(key='([\w.]+)'", text)
    if inner:
        return f"{key}.{inner[2]} is {inner[1]}; it must be a whole number."
    single = re.search(r"[Pp]arser key \"[\w.]+\": Expected a <class 'int'>\. Got value: (.*?)\.?$", text)
    if single:
        return f"{key} is {single[1]}; it must be a whole number."
    or_null = re.search(r"Subtypes: \[<class 'int'>, <class 'NoneType'>\] .*Given value: (.*?)\.?$", text)
    return None if or_null is None else f"{key} is {or_null[1]}; it must be a whole number or null."
