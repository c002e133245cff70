"""Read the options that inline code names: of commands, of scripts, and keys of the config.

- `farfield test --timeline`, `data index --format ava`, `python scripts/ablate.py --out runs`: options of that command
  or script.
- `--timeline`: an option of one of the commands and scripts that the page names.
- `model.clip.num_frames`, `data.decoder decord`, `trainer.max_epochs: 3`: keys of a config, which are options of `fit`.

Words in capitals (`FILE`, `--KEY VALUE`) and `...` stand for something else: they are left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from docs.markdown_blocks import REPOSITORY, Span
from docs.option_checks import Given
from docs.run_commands import SCRIPTS, command_name
from farfield.cli import COMMANDS

PROGRAMS = ("bash", "docker", "pip", "torchrun")
"""Other projects' programs."""
KEY = re.compile(r"(?P<key>(?:model|data|trainer|wandb|report|probe)(?:\.[a-z]\w*)+)(?:(?:=|: | )(?P<value>.+))?")
RENAMES = "docs/reference/renames.md"
"""Page of modules' paths, which look like keys."""
FILES = re.compile(r"\w+\.(csv|html|json|md|onnx|py|safetensors|xml|yaml)")


@dataclass(frozen=True)
class Mention:
    """An option that inline code names.

    Attributes:
        place: page and line.
        code: the code.
        owners: commands ("data index") and scripts ("ablate.py") of which one must have the option.
        given: the option and its values, as words; without values if it has none, or they stand for others.
    """

    place: str
    code: str
    owners: tuple[str, ...]
    given: Given

    @property
    def name(self) -> str:
        """Name of the option, without dashes."""
        return self.given[0].removeprefix("--")


def mentions(span: Span) -> list[Mention]:
    """Return the options that an inline code names.

    Raises:
        ValueError: if it has options of something unknown.
    """
    page = span.place.rpartition(":")[0]
    if key := KEY.fullmatch(span.code):
        if FILES.fullmatch(span.code) or page == RENAMES:
            return []
        values = _values([key["value"]]) if key["value"] else ()
        return [Mention(span.place, span.code, ("fit",), (f"--{key['key']}", *values))]
    words = _words(span.code)
    if not any(word.startswith("--") for word in words):
        return []
    owner, words = _owner(words, span.code)
    if owner is None:
        return []
    owners = (owner,) if owner else named_in(page)
    words, passed_on = _divided(words)
    given = [(owners, each) for each in _options(words)] + [(("fit",), each) for each in _options(passed_on)]
    return [Mention(span.place, span.code, *each) for each in given]


def _words(code: str) -> list[str]:
    try:
        return shlex.split(code)
    except ValueError:  # a quotation mark that is an apostrophe
        return code.split()


def _divided(words: list[str]) -> tuple[list[str], list[str]]:
    """Divide words at `--`, after which a script takes options of `fit`."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def _owner(words: list[str], code: str) -> tuple[str | None, list[str]]:
    """Return the command or script that words call, and their options: "" for none, None for another's program."""
    if words[0].startswith("python"):
        words = words[1:]
    if "farfield" in words:
        words = words[words.index("farfield") + 1 :]
        if words[0] == "--version":
            return None, []
        if words[0].isupper() or words[0].startswith("-"):
            return "", words
    elif words[0].startswith("-"):
        return "", words
    elif words[0] in PROGRAMS:
        return None, []
    if script := re.fullmatch(r"scripts/(\w+\.py)", words[0]):
        if not (REPOSITORY / words[0]).exists():
            raise ValueError(f"there is no {words[0]}")
        return " ".join(SCRIPTS.get(script[1], (script[1],))), words[1:]
    name = command_name(words)
    if name in COMMANDS:
        return name, words[len(name.split()) :]
    if code.endswith("."):  # a message
        return "", words
    raise ValueError(f"{words[0]!r} is neither a command nor a script")


@cache
def named_in(page: str) -> tuple[str, ...]:
    """Return the commands and scripts that a page names."""
    text = (REPOSITORY / page).read_text()
    commands = [name for name in COMMANDS if re.search(rf"(?:farfield |`){name}(?![\w.])", text)]
    scripts = set(re.findall(r"scripts/(\w+\.py)", text)) - SCRIPTS.keys()
    return (*commands, *sorted(name for name in scripts if (REPOSITORY / "scripts" / name).exists()))


def _options(words: list[str]) -> Iterator[Given]:
    """Yield each option of a command line with its values; of values `a | b | c`, each in turn."""
    name, values = "", list[str]()
    for word in [*words, "--"]:
        if not word.startswith("--"):
            values.append(word)
            continue
        if name and not name.isupper():
            alternatives = " ".join(values).split(" | ") if "|" in values else None
            for each in [[alternative] for alternative in alternatives] if alternatives else [values]:
                yield (f"--{name}", *_values(each, is_file=name == "config"))
        name, equals, value = word.removeprefix("--").partition("=")
        values = [value] if equals else []


def _values(words: list[str], *, is_file: bool = False) -> tuple[str, ...]:
    """Return an option's values, and none if one of them stands for others or is a config that must exist."""
    left_out = re.compile(r".*\.\.\..*|[A-Z][A-Z_]+" + (r"|.*[./].*" if is_file else ""))
    return () if any(left_out.fullmatch(word) for word in words) else tuple(words)
