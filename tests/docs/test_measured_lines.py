"""Every "Measured with" line and every picture names the command that makes it, and the command's options exist."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from docs.markdown_blocks import Text, pages, texts
from docs.run_commands import parse_command

COMMAND = re.compile(r"(python )?scripts/\w+\.py|farfield (predict|test|export|explain)\b")
MEASURED = re.compile(r"\*Measured\b|[Mm]easured (with|by) `|[Dd]rawn (with|by)\b")
ELSEWHERE = re.compile(r"with the commands (below|of the table)|Drawn by `farfield explain`")


def names_command(text: Text) -> bool:
    """Return whether a paragraph or a block above it in its section calls a script or a command."""
    return any(COMMAND.match(span.code) for span in text.spans) or bool(re.search(COMMAND, text.blocks_above))


def test_every_measured_line_names_a_command() -> None:
    found = [text for page in pages() for text in texts(page) if MEASURED.search(text.content)]
    assert len(found) > 35
    assert not [text.place for text in found if not names_command(text) and not ELSEWHERE.search(text.content)]


def test_the_text_below_a_picture_names_its_command() -> None:
    below = []
    for page in pages():
        paragraphs = [text for text in texts(page) if not text.in_table]
        pairs = pairwise(paragraphs)
        below += [after for text, after in pairs if text.content.startswith("![")]
    assert len(below) > 5
    assert not [text.place for text in below if not names_command(text)]


@pytest.mark.slow
def test_commands_of_scripts_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, with what the scripts require."""
    monkeypatch.chdir(tmp_path)
    found = {
        span.code: span.place
        for page in pages()
        for text in texts(page)
        for span in text.spans
        if span.ours and re.match(r"(python )?scripts/\w+\.py ", span.code)
    }
    assert len(found) > 25
    assert not [f"{place}: {code}" for code, place in found.items() if not parses(code)]


def parses(code: str) -> bool:
    """Return whether a script takes a command, which may leave out `python`."""
    try:
        return parse_command(shlex.split(code if code.startswith("python ") else f"python {code}")) == 0
    except SystemExit:
        return False
