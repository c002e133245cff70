"""Options, config keys, files and Python names in the inline code of README.md, docs/ and the changelog exist.

inline_code.py says how they are read, and `markdown_blocks.Span` which code is another project's.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Sequence

import pytest

from docs.inline_code import KEY, Mention, mentions
from docs.markdown_blocks import REPOSITORY, Span, pages, texts
from docs.option_checks import known_options, refused
from farfield.layers import AttentivePool3d
from farfield.models.backbones import BACKBONES, option_defaults
from farfield.models.insertion import BLOCKS

FILES = re.compile(r"(?:configs|docs|findings|notebooks|scripts|src|tests)/[\w./-]*")
NAMES = re.compile(r"farfield((?:\.[A-Za-z_]\w*)+)")


def spans(page: str) -> list[Span]:
    return [span for text in texts(page) for span in text.spans if span.ours]


def collected(found: Sequence[Span]) -> tuple[list[Mention], list[str]]:
    """Return the options that inline code names, and what is wrong with other code."""
    named, wrong = list[Mention](), list[str]()
    for span in found:
        try:
            named += mentions(span)
        except ValueError as error:
            wrong.append(f"{span.place}: `{span.code}`: {error}")
    return named, wrong


def unknown(named: Sequence[Mention]) -> list[str]:
    """Return the options that none of their commands has."""
    return [
        f"{each.place}: `{each.code}`: no option --{each.name} of {', '.join(each.owners) or 'a command of the page'}"
        for each in named
        if not owners_of(each)
    ]


def owners_of(mention: Mention) -> list[str]:
    """Return the commands and scripts that have an option."""
    if mention.name.endswith(".*"):
        group = mention.name.removesuffix("*")
        return [owner for owner in mention.owners if any(name.startswith(group) for name in known_options(owner))]
    return [owner for owner in mention.owners if mention.name in known_options(owner)]


def refused_values(named: Sequence[Mention]) -> list[str]:
    """Return the options whose values none of their commands takes. Values of scripts' options are not looked at."""
    by_command = defaultdict[str, list[Mention]](list)
    for each in named:
        if len(each.given) > 1 and (owners := owners_of(each)):
            by_command[owners[0]].append(each)
    wrong = []
    for command, mine in by_command.items():
        failed = refused(command, list(dict.fromkeys(each.given for each in mine)))
        for each in mine:
            others = owners_of(each)[1:]
            if each.given in failed and all(refused(other, [each.given]) for other in others):
                wrong.append(f"{each.place}: `{each.code}`: {command}: {failed[each.given]}")
    return wrong


@pytest.mark.slow
def test_options_and_config_keys_exist_and_take_the_values() -> None:
    found = [span for page in pages() for span in spans(page)]
    named, wrong = collected(found)
    assert len(named) > 500
    problems = [*wrong, *unknown(named), *refused_values(named)]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.slow
def test_options_of_the_newest_version_exist() -> None:
    """Later versions may rename the options of earlier ones."""
    lines = (REPOSITORY / "CHANGELOG.md").read_text().splitlines()
    first, last = [row for row, line in enumerate(lines, 1) if line.startswith("## ")][:2]
    found = [span for span in spans("CHANGELOG.md") if first < int(span.place.rpartition(":")[2]) < last]
    named, wrong = collected(found)
    assert len(named) > 30
    problems = [*wrong, *unknown(named), *refused_values(named)]
    assert not problems, "\n" + "\n".join(problems)


def test_files_of_the_repository_exist() -> None:
    found = [(span.place, file[0]) for page in pages() for span in spans(page) if (file := FILES.match(span.code))]
    assert len(found) > 10
    assert not [each for each in found if not (REPOSITORY / each[1]).exists()]


def test_python_names_exist() -> None:
    found = [(span.place, name[1]) for page in pages() for span in spans(page) if (name := NAMES.match(span.code))]
    assert len(found) > 20
    missing = [f"{place}: farfield{name}" for place, name in found if not exists(name.split(".")[1:])]
    assert not missing, "\n".join(missing)


@pytest.mark.slow
def test_keys_of_yaml_exist() -> None:
    """`insert: nl5`, `clip.resize: fast`: keys of a config without the groups before them, and options of networks."""
    functions = [*BLOCKS.values(), AttentivePool3d]
    known = {name.rpartition(".")[2] for name in known_options("fit")}
    known = known.union(*map(option_defaults, BACKBONES))
    known = known.union(*(inspect.signature(each).parameters for each in functions))
    found = [
        (span, part)
        for page in pages()
        for span in spans(page)
        for part in re.findall(r"^([a-z][\w.]+): ", span.code)
        if not KEY.fullmatch(span.code)
    ]
    assert len(found) > 25
    missing = [f"{span.place}: `{span.code}`" for span, part in found if part.rpartition(".")[2] not in known]
    assert not missing, "\n" + "\n".join(missing)


def exists(parts: list[str]) -> bool:
    """Return whether `farfield` has a module or another attribute of this path."""
    owner = importlib.import_module("farfield")
    for place, part in enumerate(parts, 1):
        if not hasattr(owner, part):
            try:
                importlib.import_module(".".join(["farfield", *parts[:place]]))
            except ImportError:
                return False
        owner = getattr(owner, part)
    return True
