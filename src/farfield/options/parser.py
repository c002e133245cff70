"""Derive command-line options from a function's parameters, and parse them."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any, NoReturn, TypeVar

import docstring_parser
import jsonargparse

from farfield.errors import FarfieldError
from farfield.options.command_words import files_after_dashes, how_lists_end, is_list, join_lists, join_mappings
from farfield.options.jsonargparse_compat import accept_whole_floats, option_names, option_type, required_options
from farfield.options.mistakes import explain, file_hint
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

    def dump(self, *args: Any, **kwargs: Any) -> str:
        with accept_whole_floats():
            return super().dump(*args, **kwargs)

    def instantiate(self, *args: Any, **kwargs: Any) -> Any:
        with accept_whole_floats():
            return super().instantiate(*args, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Format the help. Python's `str | Path` and `None` are replaced by what a user types: str and null."""
        text = re.sub(r"Union\[str,\s+Path,\s+null\]", "str | null", super().format_help(*args, **kwargs))
        text = re.sub(r"Optional\[dict\[str,\s+str\]\]", "name=value,... | null", text)
        text = re.sub(r"Optional\[list\[(\w+)\]\]|list\[(\w+)\]", r"one or more \1\2", text)
        return re.sub(r"\bNone\b", "null", re.sub(r"str\s+\|\s+Path", "str", text))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        explained = file_hint(message, self.words) or explain(
            message, option_names(self), required_options(self), partial(option_type, self)
        )
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
    lists = {f"--{name}": "float" in str(kind) for name, kind in types.items() if is_list(kind)}
    arguments = join_lists(arguments, lists)
    given_lists = [word for word in arguments if word in lists]
    mappings = {f"--{name}" for name, kind in types.items() if "dict[str, str]" in str(kind)}
    arguments = join_mappings(arguments, mappings)
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
        raise FarfieldError(f"{message} {how_lists_end(given_lists[0])}") from error


def _declaration(function: Callable[..., Any], hidden: set[str], *, drop_kwargs: bool) -> Callable[..., Any]:
    """Return a function that has `function`'s docstring, and only the parameters that become options.

    The types of the parameters are resolved here. Otherwise jsonargparse would run the module's TYPE_CHECKING block to
    resolve them, which imports more than `--help` needs.

    Args:
        function: a command, or the library function that it runs.
        hidden: names of parameters that do not become options. Their types are not resolved, so an import of these
            types under TYPE_CHECKING is enough.
        drop_kwargs: whether to leave out a `**kwargs` parameter. True for a command that runs a library function, whose
            options are declared separately. If False, a function with `**kwargs` is returned unchanged, because
            jsonargparse finds the options behind `**kwargs` in the function's source code.
    """
    function = inspect.unwrap(function)  # from its decorators, whose code has other parameters
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
