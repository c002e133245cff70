"""Collect the code blocks, inline code and paragraphs of a Markdown page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[2]
LANGUAGES = ("bash", "python", "yaml", "json", "text", "csv")
NEEDS = ("gpu", "download", "camera", "cluster", "data", "hours", "account")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: path of the page from the repository's root.
        line: line of the block's first line of code, counted from 1.
        language: word after the fence.
        code: the code, without the fence's indentation.
        needs: what the block needs that a test does not have, of `NEEDS`; empty if it runs in the tests.
        ours: whether it is farfield's: False for another project's code.
    """

    page: str
    line: int
    language: str
    code: str
    needs: tuple[str, ...] = ()
    ours: bool = True

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


class BadBlock(ValueError):
    """A block without a known language or marker."""


def pages() -> list[str]:
    """List the pages whose blocks are run, from the repository's root."""
    readmes = [each for each in ("README.md", "README.zh.md") if (REPOSITORY / each).exists()]
    return readmes + sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*.md"))


@cache
def tokens(page: str) -> list[Token]:
    """Parse a page; bodies of admonitions (`!!! note`) are parsed like other text."""
    return MarkdownIt().enable("table").parse(_without_admonitions((REPOSITORY / page).read_text()))


def _without_admonitions(text: str) -> str:
    """Dedent the bodies of admonitions, which are indented code to CommonMark. Line numbers stay."""
    lines, indent = [], None
    for line in text.split("\n"):
        if indent is not None and (not line.strip() or line.startswith(indent + "    ")):
            lines.append(line.replace(" " * 4, "", 1))
            continue
        opening = re.match(r"( *)(!!!|\?\?\?\+?) \w", line)
        indent = opening[1] if opening else None
        lines.append("" if opening else line)
    return "\n".join(lines)


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page, in order.

    Raises:
        BadBlock: for indented code, and a fence without a known language or with an unknown comment before it.
    """
    found, before = [], None
    for token in tokens(page):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "code_block":
            raise BadBlock(f"{page}:{line} is indented code. Write a fenced block with a language.")
        if token.type == "fence":
            needs, ours = _marker(before, f"{page}:{line}")
            language = token.info.split()[0] if token.info.strip() else ""
            if language not in LANGUAGES:
                given = f"has the language {language!r}" if language else "has no language"
                raise BadBlock(f"{page}:{line} {given}. Write one of {', '.join(LANGUAGES)}.")
            found.append(Block(page, line + 1, language, token.content, needs, ours))
        before = token
    return found


def _marker(before: Token | None, place: str) -> tuple[tuple[str, ...], bool]:
    """Read the comment before a fence: what the block needs, and whether it is ours."""
    comment = re.fullmatch(r"<!--(.*)-->", before.content.strip()) if before and before.type == "html_block" else None
    if comment is None:
        return (), True
    text = comment[1].strip()
    if text == "not ours":
        return (), False
    needs = tuple(each.strip() for each in text.removeprefix("needs:").split(","))
    if not text.startswith("needs:") or not set(needs) <= set(NEEDS):
        raise BadBlock(
            f"{place} follows the comment {text!r}. Write `needs:` and some of {', '.join(NEEDS)}, or `not ours`."
        )
    return needs, True


@dataclass(frozen=True)
class Span:
    """An inline code span.

    Attributes:
        place: page and line.
        code: the code.
        ours: whether it is farfield's: False if the comment `<!-- not ours -->` follows it, and on pages of
            docs/coming_from/ left of a table's column `farfield` and in the paragraph "Looked at".
    """

    place: str
    code: str
    ours: bool


@dataclass(frozen=True)
class Text:
    """A paragraph, heading or cell of a table, with its inline code.

    Attributes:
        place: page and line.
        content: the Markdown.
        spans: its code spans, in order.
        in_table: whether it is a cell.
        blocks_above: code of the bash blocks between its section's heading and it.
    """

    place: str
    content: str
    spans: tuple[Span, ...]
    in_table: bool
    blocks_above: str


def texts(page: str) -> list[Text]:
    """Return all paragraphs, headings and cells of a page."""
    found = []
    line, heads, column = 0, list[str](), 0
    blocks_above = ""
    in_table = in_head = False
    for token in tokens(page):
        line = token.map[0] + 1 if token.map else line
        if token.type in ("table_open", "table_close"):
            in_table, heads = token.type == "table_open", []
        elif token.type == "heading_open":
            blocks_above = ""
        elif token.type == "fence" and token.info.startswith("bash"):
            blocks_above += token.content
        elif token.type == "tr_open":
            column = 0
        elif token.type in ("thead_open", "thead_close"):
            in_head = token.type == "thead_open"
        elif token.type in ("th_close", "td_close"):
            column += 1
        elif token.type == "inline":
            theirs = "farfield" in heads[column + 1 :] or token.content.startswith("Looked at")
            theirs = theirs and page.startswith("docs/coming_from/")
            inside = _spans(token, page, line, theirs=theirs)
            found.append(Text(f"{page}:{line}", token.content, inside, in_table, blocks_above))
            if in_head:
                heads.append(token.content)
    return found


def _spans(inline: Token, page: str, line: int, *, theirs: bool) -> tuple[Span, ...]:
    children = [*(inline.children or []), Token("end", "", 0)]
    found = []
    for child, following in pairwise(children):
        line += child.type == "softbreak"
        if child.type == "code_inline":
            ours = not theirs and following.content != "<!-- not ours -->"
            found.append(Span(f"{page}:{line}", child.content, ours))
    return tuple(found)
