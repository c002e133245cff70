"""Every template shows a text letter by letter, whatever markup it holds, and keeps its own structure."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from markdown_it import MarkdownIt
from markdown_it.token import Token

from farfield.reports.rendering import (
    code_span,
    escape_markdown,
    html_environment,
    json_value,
    markdown_environment,
    render,
)
from reports.pages import HTML, MARKDOWN

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": '" onload="alert(1)" x=\'',
    "comment": "<!-- a",
    "reference": "&lt;b&gt; &#60;b>",
    "template": "{{ 7*7 }} {% raw %} {# a #}",
    "newline": "bow\n\n# one\r\n- two\u2028three",
    "cells": "a | b || c \\| d",
    "backticks": "`a` ``b`` ```c",
    "backtick first": "`a",
    "backtick last": "a`",
    "fence": "```\n# a\n~~~",
    "link": "[a](b.c) ![d](e.f) [g]: h.i",
    "autolink": "<mailto:a@b.c> a@b.c",
    "emphasis": "**a** __b__ *c* _d_",
    "backslash": "\\*a\\* \\",
    "list": "- a",
    "star list": "* a",
    "numbered": "1. a",
    "numbered too": "2) a",
    "number": "1.",
    "numbers": "1. 2. a) 3) b",
    "quotation": "> a",
    "heading": "# a",
    "underline": "===",
    "rule": "---",
    "indented": "    a",
}


class Structure(HTMLParser):
    """Tags and names of attributes of a page, and its text with attributes' values."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.texts += [value or "" for _, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(("/", tag))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment",))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@cache
def plain(page: str) -> str:
    """A page with a harmless word in every place, made once."""
    return (HTML | MARKDOWN)[page]("bow")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("page", HTML)
def test_html_keeps_its_structure(page: str, text: str) -> None:
    expected, found = Structure(plain(page)), Structure(HTML[page](text))
    assert len(expected.tags) > 10
    assert found.tags == expected.tags
    assert count("\n".join(found.texts), text) >= count("\n".join(expected.texts), "bow") > 4


def test_links_are_never_made_of_text() -> None:
    for url in ("https://e.com/a", "www.e.com", "ftp://e.com", "a@e.com"):
        escaped = escape_markdown(url)
        assert not re.search(r"://|www\.|@", escaped)  # GitHub links what has these
        assert texts_of(escaped) == url


def count(text: str, part: str) -> int:
    """How often a part occurs, whatever spaces are between its words."""
    return len(re.findall(r"\s+".join(map(re.escape, part.split())), text))


def parse(markdown: str) -> list[Token]:
    tokens = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        tokens += [token, *(token.children or [])]
    return tokens


def structure_of(markdown: str) -> list[tuple[str, str]]:
    """Types of the tokens; empty text makes none."""
    return [(token.type, token.tag) for token in parse(markdown) if token.type != "text"]


def texts_of(markdown: str) -> str:
    kinds = ("text", "code_inline", "fence")
    return "\n".join(token.content for token in parse(markdown) if token.type in kinds)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("page", MARKDOWN)
def test_markdown_keeps_its_structure(page: str, text: str) -> None:
    expected, found = plain(page), MARKDOWN[page](text)
    assert len(structure_of(expected)) > 50
    assert structure_of(found) == structure_of(expected)
    if "```" not in text:  # which becomes ''' in a fenced block
        assert count(texts_of(found), text) >= 4


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_escaped_markdown_shows_the_text_in_every_place(text: str) -> None:
    shown = " ".join(text.split())
    for escaped in (escape_markdown(text), code_span(text)):
        for template, expected in (("{}", "{}"), ("- {}", "{}"), ("a {} b", "a {} b")):
            tokens = [each for each in parse(template.format(escaped)) if each.type in ("text", "code_inline")]
            assert "".join(token.content for token in tokens) == expected.format(shown)
    cells = [token for token in parse(f"| a | b |\n|---|---|\n| {escape_markdown(text)} | c |") if token.type == "text"]
    assert [cell.content for cell in cells] == ["a", "b", shown, "c"]
    assert escape_markdown(" \n") == code_span(" \n") == ""


def test_plain_labels_stay_readable_in_the_source() -> None:
    for text in ("stand_up, 2.5 x-ray", "the file is empty (moov atom not found): cut off.", "видео (class 42)", "5%."):
        assert escape_markdown(text) == text


def test_control_characters_reach_no_terminal() -> None:
    for written in (escape_markdown("a\x1b[31mb\x9b"), code_span("a\x1b[31mb\x9b")):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", written)
        assert "\ufffd" in written


def test_a_template_cannot_forget_to_escape() -> None:
    markdown, html = markdown_environment(), html_environment()
    for source in ("{{ x }}", "{{ x | safe }}", "{{ x ~ '' }}", "{{ [x] | join }}", "{{ x | upper | lower }}"):
        assert markdown.from_string(source).render(x="a*b*") == "a&#42;b&#42;"
    mixed = "{{ (x | code) ~ x }} {{ [x | code, x] | join }} {{ '%s' | format(x | code) }}"
    assert not re.search(r"[`*]", markdown.from_string(mixed).render(x="a*b*"))
    assert markdown.from_string("{{ x | json }}").render(x={"a": "*"}) == json_value({"a": "*"}) == '{"a": "*"}'
    assert html.from_string("{{ x }}{{ [x] | join }}").render(x="<b>") == "&lt;b&gt;&lt;b&gt;"


def test_a_missing_value_and_an_unknown_kind_of_template_are_errors() -> None:
    for environment in (markdown_environment(), html_environment()):
        with pytest.raises(UndefinedError, match="'x' is undefined"):
            environment.from_string("{{ x }}").render()
    with pytest.raises(ValueError, match=r"is page\.txt\.j2; it must end in \.html\.j2 or \.md\.j2"):
        render("page.txt.j2")
