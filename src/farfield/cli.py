"""Entry point of the command line: the table of commands, and their dispatch.

LightningCLI parses the options of `fit`, and jsonargparse those of the other commands. A command is a function, its
options are the function's parameters, and its help is the function's docstring.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from farfield.errors import FarfieldError, nearest
from farfield.memory_errors import describe_out_of_memory, is_out_of_memory


@dataclass(frozen=True)
class Command:
    """A subcommand of `farfield`, such as `farfield predict`.

    Attributes:
        function: the command's function, as "module:function".
        summary: one line for the overview of all commands.
        positionals: `nargs` of each positional parameter, by its name, as in argparse. A parameter whose `nargs` is
            None takes exactly one value.
    """

    function: str
    summary: str
    positionals: dict[str, str | None] = field(default_factory=dict)


COMMANDS: dict[str, Command] = {
    "fit": Command("farfield.commands.fit:fit", "train a network from a config"),
    "validate": Command("farfield.commands.test:validate", "score a checkpoint on one central view per video"),
    "test": Command("farfield.commands.test:test", "score a checkpoint on all views, and write a report"),
    "test splits": Command(
        "farfield.commands.test_splits:splits",
        "average the test results of a data set's official splits",
        {"runs": "+"},
    ),
    "predict": Command("farfield.commands.predict:predict", "recognise actions in video files", {"videos": "+"}),
    "explain": Command(
        "farfield.commands.explain:explain",
        "explain a prediction by attention, Grad-CAM and the classes' logits over time",
        {"clip": None},
    ),
    "serve": Command("farfield.commands.serve:serve", "serve predictions on a web page and by HTTP"),
    "data index": Command(
        "farfield.commands.data_index:index",
        "write a manifest (CSV) of a collection of videos",
        {"root": None, "out": None},
    ),
    "data download": Command(
        "farfield.commands.data_download:download",
        "download the clips of a Kinetics CSV",
        {"annotations": None, "out": None},
    ),
    "data prepare": Command(
        "farfield.commands.data_prepare:prepare", "transcode a collection for training", {"source": None, "out": None}
    ),
    "data subset": Command(
        "farfield.commands.data_subset:subset",
        "choose classes and videos of a collection",
        {"source": None, "out": None},
    ),
    "data split": Command(
        "farfield.commands.data_split:split", "make training, validation and test manifests, or folds", {"source": None}
    ),
    "data verify": Command(
        "farfield.commands.data_verify:verify", "decode every video, and find duplicates and leaks", {"sources": "+"}
    ),
    "data synthesize": Command(
        "farfield.commands.data_synthesize:synthesize", "write a generated data set", {"task": None, "out": None}
    ),
    "convert": Command(
        "farfield.commands.convert:convert", "convert other projects' checkpoints", {"input": None, "out": None}
    ),
    "export": Command(
        "farfield.commands.export:export",
        "export to ONNX, OpenVINO, or a folder for publishing",
        {"checkpoint": None, "out": None},
    ),
    "compare": Command(
        "farfield.commands.compare:compare", "compare two tested runs, video by video", {"run_a": None, "run_b": None}
    ),
    "configs": Command("farfield.commands.configs:configs", "list, print or copy recipes for --config", {"name": "?"}),
    "summary": Command(
        "farfield.commands.summary:summary",
        "count a network's parameters, FLOPs and memory by stage",
        {"network": None},
    ),
}

MORE_MEMORY = "Close other programs, or use a machine with more."
"""Advice for a command that ran out of memory, where it has no options that need less."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    The status is 0 for success, 1 if videos failed or standard output was closed, 2 for an error that the user can fix,
    and 130 for Ctrl-C.

    Args:
        arguments: words after `farfield`; None for those of `sys.argv`.
    """
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # preserves file names that are not UTF-8
    try:
        try:
            return _main(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe, as in `farfield predict ... | head`
        sys.stderr.close()
        return 1


def _main(words: list[str]) -> int:
    if "--offline" in words:  # of any command; the variable also reaches its worker processes
        words = [word for word in words if word != "--offline"]
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        from farfield.commands.version import version_report

        print(version_report())
        return 0
    if words[0] == "data" and words[1:2] in (["-h"], ["--help"]):
        print(_overview("data "))
        return 0
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    if name not in COMMANDS:
        if any(command.startswith(name + " ") for command in COMMANDS):
            name = " ".join(words[:2])
        print(f"farfield: there is no command {name!r}. {nearest(name, COMMANDS)}", file=sys.stderr)
        return 2
    rest = _with_null(words[len(name.split()) :])
    try:
        return _run(name, rest)
    except FarfieldError as error:
        print(f"farfield {name}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"farfield {name}: {describe_out_of_memory(error)}. {MORE_MEMORY}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"farfield {name}: interrupted.", file=sys.stderr)
        return 130


def _with_null(words: list[str]) -> list[str]:
    """Replace the option value None by null, which the parser expects. Users may copy None from a help text.

    The option --label is not changed, because None may be the name of a class.
    """
    before = ["", *words]
    return [
        "null"
        if word == "None" and re.match(r"--(?!label$)", previous)
        else re.sub(r"^(--(?!label=)[\w.]+)=None$", r"\1=null", word)
        for previous, word in zip(before, words, strict=False)
    ]


def _run(name: str, arguments: list[str]) -> int:
    command = COMMANDS[name]
    module, function = command.function.split(":")
    target: Callable[..., int] = getattr(import_module(module), function)
    if name == "fit":
        return target(arguments)
    from farfield.options.parser import parse

    return target(**parse(target, arguments, prog=f"farfield {name}", positionals=command.positionals))


def _overview(prefix: str = "") -> str:
    shown = {name: command for name, command in COMMANDS.items() if name.startswith(prefix)}
    width = max(map(len, shown))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in shown.items()]
    return "\n".join(
        [
            f"usage: farfield {prefix}COMMAND [options]",
            "",
            *lines,
            "",
            f"farfield {prefix}COMMAND --help explains a command.",
            "farfield COMMAND --offline downloads no model from huggingface.co.",
            "farfield --version prints the versions to give in a bug report.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
