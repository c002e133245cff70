"""Turn formulas into MathML, which browsers show without a script."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.S)


def formulas_to_mathml(page: str) -> str:
    """Replace every formula that pymdownx.arithmatex has found in a page by MathML.

    Args:
        page: HTML of the page, with formulas as `\\(...\\)` in a span or `\\[...\\]` in a div.
    """
    return _FORMULA.sub(_convert, page)


def formulas_to_text(title: str) -> str:
    """Replace the formulas of a title, such as `\\(\\gamma\\)`, by their characters."""
    return re.sub(r"\\\((.*?)\\\)", lambda found: re.sub("<[^>]*>", "", convert(html.unescape(found[1]))), title)


def _convert(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    source = html.unescape(found[2]).strip()
    source = re.sub(r"^\\[(\[]|\\[)\]]$", "", source).strip()
    written = convert(source, display=display)
    return f'<div class="formula">{written}</div>' if display == "block" else written
