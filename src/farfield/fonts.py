"""Find fonts for class names in any script, for matplotlib and for Pillow.

matplotlib's own font, DejaVu Sans, has the letters of most alphabets and none of Chinese, Japanese or Korean: it draws
boxes. Where a text needs more, the fonts of the system are searched by the letters that they have. Nothing is fetched.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from PIL import ImageFont

log = logging.getLogger("farfield")

_NO_LETTERS = ("lastresort", "adobeblank", "adobe-blank", "notdef")
"""Fonts that say to have every letter and draw a box or nothing for it."""


def font_families(texts: str | Iterable[str]) -> list[str]:
    """Returns what matplotlib takes for `fontfamily`: its own font, and others for the letters which that lacks."""
    from matplotlib import rcParams

    return [*rcParams["font.family"], *(_family(path) for path in _fallbacks(frozenset("".join(texts))))]


def draw_text(text: str) -> dict[str, Any]:
    """Returns arguments of matplotlib's texts for one that people wrote: no formula begins at a dollar sign."""
    return {"fontfamily": font_families(text), "parse_math": False}


def drawable(text: str) -> str:
    """Returns a text without what no font has: a question mark for each run of such letters."""
    lacking = _lacking(text)
    return re.sub(f"[{re.escape(lacking)}]+", "?", text) if lacking else text


def shown_name(label: str, number: int) -> str:
    """Returns a class as pictures show it: its name, or its number (from 0) where no font has its letters."""
    return f"class {number}" if _lacking(label) else label


def shown_names(labels: Sequence[str]) -> list[str]:
    """Returns `shown_name` of all classes."""
    return [shown_name(label, number) for number, label in enumerate(labels)]


def pillow_font(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """Returns one font for a whole text, and the text as the font can draw it."""
    needed = {letter for letter in text if _needs_glyph(letter)}
    candidates = [_own_font(), *_fallbacks(frozenset(text))]
    best = max(candidates, key=lambda path: len(needed & _letters(path)))  # of equal ones the first: our own
    lacking = "".join(needed - _letters(best))
    drawable(text)  # says so where no font has it
    return _open(best, size), re.sub(f"[{re.escape(lacking)}]+", "?", text) if lacking else text


@cache
def _open(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@cache
def _own_font() -> str:
    from matplotlib import get_data_path  # late: it takes a while

    return str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


def _needs_glyph(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cc", "Cf", "Zs", "Zl", "Zp")


@cache
def _letters(path: str) -> frozenset[str]:
    """The letters of a font; none for one that is damaged, or of bitmaps, which cannot be scaled."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache
def _system_fonts() -> tuple[str, ...]:
    """As they are now: matplotlib's own list is of when it was made, without fonts that were installed since."""
    from matplotlib.font_manager import findSystemFonts

    found = sorted({str(path) for path in findSystemFonts()}, key=_unusual)
    return tuple(path for path in found if not any(name in Path(path).name.casefold() for name in _NO_LETTERS))


def _unusual(path: str) -> tuple[bool, bool, str]:
    name = Path(path).stem.casefold()
    styled = re.search(r"bold|italic|oblique|light|thin|black|mono|condensed", name) is not None
    return styled, "sans" not in name, path


@lru_cache(4096)
def _fallbacks(letters: frozenset[str]) -> tuple[str, ...]:
    """The fewest fonts of the system, the one with the most letters first, for what our own font lacks."""
    lacking = {letter for letter in letters if _needs_glyph(letter)} - _letters(_own_font())
    chosen: list[str] = []
    while lacking:
        whole = (path for path in _system_fonts() if lacking <= _letters(path))  # the first that has all is enough
        best = next(whole, None) or max(_system_fonts(), key=lambda path: len(lacking & _letters(path)), default=None)
        if best is None or not lacking & _letters(best):
            break
        chosen.append(best)
        lacking -= _letters(best)
    return tuple(chosen)


@cache
def _family(path: str) -> str:
    """Makes a font known to matplotlib and returns its name there."""
    from matplotlib.font_manager import fontManager

    fontManager.addfont(path)
    return fontManager.ttflist[-1].name


@lru_cache(4096)
def _lacking(text: str) -> str:
    """The letters of a text that no font here has; says so, once for all texts."""
    fonts = [_own_font(), *_fallbacks(frozenset(text))]
    lacking = {letter for letter in text if _needs_glyph(letter)}.difference(*map(_letters, fonts))
    if lacking:
        _say_so(text)
    return "".join(sorted(lacking))


_said: list[str] = []


def _say_so(text: str) -> None:
    if not _said:
        log.warning(
            "no font on this machine has all letters of %r: pictures show class numbers or question marks in their "
            "place; tables and pages have the names. Install a font that has them, as fonts-noto-cjk (Debian, Ubuntu) "
            "or google-noto-sans-cjk-fonts (Fedora), and draw again.",
            text,
        )
        _said.append(text)
