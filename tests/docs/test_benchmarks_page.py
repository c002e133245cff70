"""docs/benchmarks.md names commands that exist; README.md has its figures; both READMEs show the same commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from docs.markdown_blocks import REPOSITORY, blocks
from docs.run_commands import parse_command

NUMBER = re.compile(r"\d[\d,.]*\d|\d")
COMMAND = re.compile(r"`((?:python scripts/\w+\.py|farfield (?:test|export) (?!--help)[\w-])[^`]*)`")
BENCHMARKS = "docs/benchmarks.md"
READMES = ("README.md", "README.zh.md")


@dataclass(frozen=True)
class Table:
    """A table of the page of benchmarks.

    Attributes:
        rows: numbers of each row below the head.
        commands: commands that its rows or the lines below it name.
        text: its Markdown, with the lines below it up to the next table or heading.
    """

    rows: tuple[tuple[str, ...], ...]
    commands: tuple[str, ...]
    text: str


def one_line(text: str) -> str:
    return " ".join(text.split())


def tables() -> list[Table]:
    """Return the tables of the page of benchmarks."""
    page = (REPOSITORY / BENCHMARKS).read_text()
    found = []
    for part in re.findall(r"((?:^\|.*\n)+(?:(?!^[|#]).*\n?)*)", page, flags=re.MULTILINE):
        lines = [line for line in part.splitlines() if line.startswith("|")][2:]
        rows = tuple(tuple(NUMBER.findall(line)) for line in lines)
        found.append(Table(rows, tuple(map(one_line, COMMAND.findall(one_line(part)))), part))
    return found


def claims(readme: str) -> list[tuple[tuple[str, ...], str]]:
    """Return the measured claims of a README: the numbers and the command of each row."""
    rows = re.findall(
        r"^\| .+ \| ([^|]*\d[^|]*) \| `([^`]+)` \|$", (REPOSITORY / readme).read_text(), flags=re.MULTILINE
    )
    return [(tuple(NUMBER.findall(figure)), command) for figure, command in rows]


def commands(readme: str) -> list[str]:
    """Return the lines of a README's bash and Python blocks without comments."""
    lines = [line for block in blocks(readme) for line in block.code.splitlines()]
    return [code for line in lines if (code := re.sub(r"(^|\s+)# .*", "", line).rstrip())]


def test_every_table_names_its_date_and_command() -> None:
    assert len(tables()) > 15
    for table in tables():
        assert re.search(r"2026-\d\d-\d\d", table.text), f"no date below\n{table.text}"
        assert table.commands, f"no command below\n{table.text}"


@pytest.mark.slow
def test_commands_of_the_benchmarks_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed = [
        each for each in dict.fromkeys(c for t in tables() for c in t.commands) if parse_command(shlex.split(each))
    ]
    assert not failed


@pytest.mark.parametrize("readme", READMES)
def test_figures_of_the_readme_are_those_of_the_benchmarks(readme: str) -> None:
    found = claims(readme)
    assert len(found) == 5
    for numbers, command in found:
        places = [set().union(*table.rows) for table in tables() if command in table.commands]
        assert places, f"{BENCHMARKS} has no table with {command}"
        assert any(set(numbers) <= each for each in places), f"{numbers} of {readme} are not in {BENCHMARKS}"


def test_the_readme_has_150_lines_at_most() -> None:
    for readme in READMES:
        assert len((REPOSITORY / readme).read_text().splitlines()) <= 150


def test_the_chinese_readme_shows_the_same_commands_in_the_same_order() -> None:
    english, chinese = READMES
    assert commands(english) == commands(chinese)
    assert claims(english) == claims(chinese)
