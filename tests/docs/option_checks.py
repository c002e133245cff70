"""Check options of farfield's commands and of the repository's scripts by their own parsers.

Arguments that a command requires can be missing, since a text names a few options at a time.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias
from unittest.mock import patch

from docs.markdown_blocks import REPOSITORY
from farfield import FarfieldError
from farfield.cli import COMMANDS
from farfield.clip_spec import ClipOptions
from farfield.options.parser import CommandParser, parse
from farfield.probing.options import ProbeSettings
from farfield.training import config as training_config

Given: TypeAlias = tuple[str, ...]
"""An option as words: its name with dashes, and its values."""

REQUIRED_OF_FIT = ("--model.backbone=tiny", "--data.train=train.csv", "--run_dir=runs/mine")


class _Parsed(BaseException):
    """The words were parsed, by this parser."""


@cache
def known_options(owner: str) -> frozenset[str]:
    """Return the names of the options of a command, such as "data index", or of a script, such as "ablate.py"."""
    if owner.endswith(".py"):
        return frozenset(_options(_script_parser(owner)))
    names = {*_options(_parser(owner)), "offline"}
    if owner == "fit":
        names |= {f"model.clip.{name}" for name in ClipOptions.__annotations__}
        names |= {f"probe.{field.name}" for field in fields(ProbeSettings)}
    return frozenset(names)


def refused(command: str, given: Sequence[Given]) -> dict[Given, str]:
    """Return the options that a command's parser refuses, with its messages; none of a script's.

    Many options are parsed at once, since building a parser takes long; if they are refused, half of them.
    """
    if command.endswith(".py"):
        return {}
    message = _message(command, [word for each in given for word in each])
    if message is None:
        return {}
    if len(given) == 1:
        return {given[0]: message}
    half = len(given) // 2
    return refused(command, given[:half]) | refused(command, given[half:])


def _message(command: str, words: list[str]) -> str | None:
    """Parse words by a command's parser; return its message if it refuses them."""
    try:
        if command == "fit":
            _parser("fit").parse_args([*REQUIRED_OF_FIT, *training_config._with_value(words)])
        else:
            _parse(command, words)
    except FarfieldError as error:
        return str(error)
    return None


@cache
def _parser(command: str) -> CommandParser:
    """Return the parser of a command."""
    return _training_parser() if command == "fit" else _parse(command, [])


def _parse(command: str, words: list[str]) -> CommandParser:
    """Parse the words of a command other than `fit`, and return its parser."""
    original = CommandParser.parse_args

    def parse_args(self: CommandParser, arguments: list[str]) -> Any:
        original(self, arguments, _skip_validation=True)
        raise _Parsed(self)

    about = COMMANDS[command]
    module, function = about.function.split(":")
    with patch.object(CommandParser, "parse_args", parse_args):
        return _stopped(
            lambda: parse(getattr(import_module(module), function), words, prog=command, positionals=about.positionals)
        )


def _training_parser() -> CommandParser:
    """Return the parser of `fit`, which looks into no file: not for weights, a teacher or the clip of either."""

    def clip(backbone: Any, clip: Any, weights: Any, backbone_options: Any, block_options: Any) -> dict[str, Any]:
        return {"num_frames": 4, "crop_px": 32}

    def stop(self: Any, parser: CommandParser, args: object) -> None:
        raise _Parsed(parser)

    with (
        patch.object(training_config, "clip_values", clip),
        patch.object(training_config, "teacher_clip", lambda path: None),
        patch.object(training_config.TrainingRun, "parse_arguments", stop),
    ):
        return _stopped(lambda: training_config.make_run([]))


def _script_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of one of the repository's scripts."""
    script = REPOSITORY / "scripts" / name

    def parse_args(self: argparse.ArgumentParser, *arguments: Any, **options: Any) -> Any:
        raise _Parsed(self)

    with (
        patch.object(argparse.ArgumentParser, "parse_args", parse_args),
        patch.object(sys, "argv", [str(script)]),
        patch.object(sys, "path", [str(script.parent), *sys.path]),
    ):
        return _stopped(lambda: runpy.run_path(str(script), run_name="__main__"))


def _stopped(run: Callable[[], object]) -> Any:
    """Run until a parser has parsed, and return the parser."""
    try:
        run()
    except _Parsed as parsed:
        return parsed.args[0]
    raise AssertionError("nothing was parsed")


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the names of a parser's options, those of its subcommands included."""
    names: set[str] = set()
    for action in parser._actions:
        names |= {option.removeprefix("--") for option in action.option_strings}
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                names |= _options(each)
    return names
