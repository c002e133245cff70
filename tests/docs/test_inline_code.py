"""Options, config keys, files and Python names in the inline code of README.md, docs/ and the changelog exist.

inline_code.py says how they are read, and `markdown_blocks.Span` which code is another project's.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import get_args

import pytest

from docs.inline_code import KEY, Mention, mentions
from docs.markdown_blocks import REPOSITORY, Span, pages, texts
from docs.option_checks import known_options, refused
from farfield.cli import COMMANDS
from farfield.layers import AttentivePool3d
from farfield.layers.non_local import Pairwise
from farfield.models.backbones import BACKBONES, STAGES, option_defaults
from farfield.models.head_kinds import HeadKind
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


@pytest.fixture(scope="module")
def short_names() -> set[str]:
    """Names of options and keys without their groups, and options of backbones, blocks and heads."""
    names = {name.rpartition(".")[2] for command in COMMANDS for name in known_options(command)}
    functions = [*BLOCKS.values(), AttentivePool3d]
    return names.union(*map(option_defaults, BACKBONES), *(inspect.signature(each).parameters for each in functions))


@pytest.mark.slow
def test_keys_of_yaml_exist(short_names: set[str]) -> None:
    """`insert: nl5`, `clip.resize: fast`."""
    found = [
        (span, key[1])
        for page in pages()
        for span in spans(page)
        if (key := re.match(r"(?:\w+\.)*([a-z]\w+): ", span.code)) and not KEY.fullmatch(span.code)
    ]
    assert len(found) > 25
    missing = [f"{span.place}: `{span.code}`" for span, name in found if name not in short_names]
    assert not missing, "\n" + "\n".join(missing)


@pytest.mark.slow
def test_short_names_in_translations_exist(short_names: set[str]) -> None:
    """`frame_stride`, after `model.clip.num_frames` in a table of docs/coming_from/."""
    known = short_names | {
        *BACKBONES,
        *STAGES,
        *(f"fast_{stage}" for stage in STAGES),
        *get_args(HeadKind),
        *get_args(Pairwise),
    }
    found = [
        (span, name[1])
        for page in pages()
        for text in texts(page)
        for span in text.spans
        if page.startswith("docs/coming_from/") and text.in_table and span.ours
        if (name := re.fullmatch(r"([a-z]+(?:_[a-z0-9]+)+)(?: .*)?", span.code))
    ]
    assert len(found) > 30
    missing = [f"{span.place}: `{span.code}`" for span, name in found if name not in known]
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
