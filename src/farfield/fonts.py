"""Find fonts for class names in any script, for matplotlib and Pillow.

matplotlib's default font, DejaVu Sans, has the glyphs of most alphabets but not of Chinese, Japanese and Korean.
Missing glyphs are taken from the system's fonts, because matplotlib would draw boxes instead. Nothing is downloaded.
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

_PLACEHOLDER_FONTS = ("lastresort", "adobeblank", "adobe-blank", "notdef")
"""Placeholder fonts: they list every glyph, but draw a box or nothing."""


def font_families(texts: str | Iterable[str]) -> list[str]:
    """Return a value for matplotlib's `fontfamily`: the default font, and fallback fonts for its missing glyphs."""
    from matplotlib import rcParams

    return [*rcParams["font.family"], *(_family(path) for path in _fallbacks(frozenset("".join(texts))))]


def draw_text(text: str) -> dict[str, Any]:
    """Return keyword arguments for matplotlib to draw a text in suitable fonts, without parsing $ as mathematics."""
    return {"fontfamily": font_families(text), "parse_math": False}


def drawable(text: str) -> str:
    """Replace each run of characters that are missing from every installed font with one question mark."""
    lacking = _lacking(text)
    return re.sub(f"[{re.escape(lacking)}]+", "?", text) if lacking else text


def shown_name(label: str, number: int) -> str:
    """Return the name of a class for pictures: its label, or "class NUMBER" if a character is in no installed font.

    `number` is the index of the class, from 0.
    """
    return f"class {number}" if _lacking(label) else label


def shown_names(labels: Sequence[str]) -> list[str]:
    """Return the name of each class for pictures, see `shown_name`."""
    return [shown_name(label, number) for number, label in enumerate(labels)]


def pillow_font(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """Choose the font that has the most of a text's characters, and adapt the text to it.

    Args:
        text: the text to draw.
        size: size of the font in pixels.

    Returns:
        The font, and the text to draw with it: each run of characters that the font lacks is replaced with "?".
    """
    needed = {letter for letter in text if _needs_glyph(letter)}
    candidates = [_default_font(), *_fallbacks(frozenset(text))]
    best = max(candidates, key=lambda path: len(needed & _letters(path)))  # ties go to the first, the default font
    lacking = "".join(needed - _letters(best))
    drawable(text)  # logs a warning if no font has a character
    return _open(best, size), re.sub(f"[{re.escape(lacking)}]+", "?", text) if lacking else text


@cache
def _open(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@cache
def _default_font() -> str:
    from matplotlib import get_data_path  # late: slow to import

    return str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


def _needs_glyph(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cc", "Cf", "Zs", "Zl", "Zp")


@cache
def _letters(path: str) -> frozenset[str]:
    """Return the characters that a font has; none for a damaged font, or for a bitmap font, which cannot be scaled."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache
def _system_fonts() -> tuple[str, ...]:
    """Return the paths of the installed fonts, regular sans-serif first.

    matplotlib's cached list is not used, since it lacks recently installed fonts.
    """
    from matplotlib.font_manager import findSystemFonts

    found = sorted({str(path) for path in findSystemFonts()}, key=_font_order)
    return tuple(path for path in found if not any(name in Path(path).name.casefold() for name in _PLACEHOLDER_FONTS))


def _font_order(path: str) -> tuple[bool, bool, str]:
    """Return a sort key that puts regular sans-serif fonts first."""
    name = Path(path).stem.casefold()
    styled = re.search(r"bold|italic|oblique|light|thin|black|mono|condensed", name) is not None
    return styled, "sans" not in name, path


@lru_cache(4096)
def _fallbacks(letters: frozenset[str]) -> tuple[str, ...]:
    """Choose system fonts for the characters that the default font lacks, and return their paths.

    If one font has all of these characters, only this font is chosen. Otherwise fonts are added one by one, each time
    the font with the most of the characters that are still missing, until no font adds any.
    """
    lacking = {letter for letter in letters if _needs_glyph(letter)} - _letters(_default_font())
    chosen: list[str] = []
    while lacking:
        whole = (path for path in _system_fonts() if lacking <= _letters(path))  # prefer a single font that has all
        best = next(whole, None) or max(_system_fonts(), key=lambda path: len(lacking & _letters(path)), default=None)
        if best is None or not lacking & _letters(best):
            break
        chosen.append(best)
        lacking -= _letters(best)
    return tuple(chosen)


@cache
def _family(path: str) -> str:
    """Register a font with matplotlib, and return its family name."""
    from matplotlib.font_manager import fontManager

    fontManager.addfont(path)
    return fontManager.ttflist[-1].name


@lru_cache(4096)
def _lacking(text: str) -> str:
    """Return the characters of a text that no installed font has.

    A warning is logged only for the first text in a process that has such characters.
    """
    fonts = [_default_font(), *_fallbacks(frozenset(text))]
    lacking = {letter for letter in text if _needs_glyph(letter)}.difference(*map(_letters, fonts))
    if lacking:
        _warn_once(text)
    return "".join(sorted(lacking))


_warned: list[str] = []


def _warn_once(text: str) -> None:
    if not _warned:
        log.warning(
            "no font on this machine has all characters of %r. Pictures show class numbers or question marks instead; "
            "tables and HTML pages show the names. Install a font that has these characters, for example "
            "fonts-noto-cjk (Debian, Ubuntu) or google-noto-sans-cjk-fonts (Fedora), and draw again.",
            text,
        )
        _warned.append(text)
