"""Fonts for class names: those of the system are found by their letters, and what no font has is said."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from farfield import fonts
from farfield.inference.labelled_video import labelled
from farfield.inference.prediction_schema import RankedLabel

WALK, RUN = "\u8d70", "\u8dd1"  # Chinese: walk, run
NOWHERE = "\U0002ffff"
"""A place in Unicode that no letter has."""


def write_font(path: Path, letters: str, *, advance: int) -> Path:
    """A font of 1000 units whose letters are full squares, each `advance` units wide."""
    pen = TTGlyphPen(None)
    for corner, draw in zip(((0, 0), (0, 800), (800, 800), (800, 0)), (pen.moveTo, *[pen.lineTo] * 3), strict=True):
        draw(corner)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    names = [f"u{ord(letter):X}" for letter in letters]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names, strict=True)})
    builder.setupGlyf({".notdef": empty, **dict.fromkeys(names, square)})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", *names), (advance, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def forget() -> None:
    for each in (fonts._fallbacks, fonts._lacking):
        each.cache_clear()
    fonts._warned.clear()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine with these fonts and no others beside matplotlib's, whatever this one has."""

    def has(*paths: Path) -> None:
        forget()
        monkeypatch.setattr(fonts, "_system_fonts", lambda: tuple(map(str, paths)))

    forget()
    yield has
    monkeypatch.undo()
    forget()


def test_a_fallback_font_is_used_for_missing_characters(tmp_path: Path, machine) -> None:
    few = write_font(tmp_path / "Few.ttf", WALK, advance=1000)
    more = write_font(tmp_path / "More.ttf", WALK + RUN, advance=2000)
    machine(few, more)
    assert fonts.font_families("walk é ж") == ["sans-serif"]
    assert fonts.font_families([WALK + "a", RUN]) == ["sans-serif", "More"]  # one for both
    assert fonts.shown_names(["walk", WALK, RUN + NOWHERE]) == ["walk", WALK, "class 2"]
    assert fonts.drawable(f"a{NOWHERE}{NOWHERE}b {WALK}\u200d") == f"a?b {WALK}\u200d"


def test_a_figures_text_is_as_wide_as_its_fonts_letters(tmp_path: Path, machine) -> None:
    machine(write_font(tmp_path / "Wide.ttf", WALK, advance=3000))
    figure = Figure(figsize=(8, 2), dpi=72)
    text = figure.text(0.1, 0.5, WALK * 4, fontsize=20, **fonts.draw_text(WALK))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as where a letter is missing
        box = text.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert 3 * 60 + 16 <= round(box.width) <= 4 * 60  # the last letter's advance counts or not, by matplotlib's release


def test_pillow_gets_one_font_for_the_whole_text(tmp_path: Path, machine) -> None:
    machine(write_font(tmp_path / "Square.ttf", WALK + "…", advance=1000))
    font, text = fonts.pillow_font(WALK * 3, 20)
    assert (text, font.getlength(text)) == (WALK * 3, 60)
    font, text = fonts.pillow_font("walk é", 20)
    assert (text, Path(font.path).name) == ("walk é", "DejaVuSans.ttf")
    assert fonts.pillow_font(f"walk {WALK}", 20)[1] == "walk ?"  # neither has all; our own has most


def test_a_labelled_video_shows_the_letters(tmp_path: Path, machine) -> None:
    machine(write_font(tmp_path / "Square.ttf", WALK + "…", advance=1000))
    frame = np.zeros((10, 330, 3), np.uint8)
    [picture] = labelled([frame], [RankedLabel(WALK * 2, 0.0)])
    white = (picture[10:] == 255).all(-1)[:, : 330 // 2]
    assert white.sum() == pytest.approx(2 * 12 * 12, rel=0.15)  # two squares of 0.8 of the text's 15 pixels


def test_characters_without_a_font_are_reported_once(machine, caplog: pytest.LogCaptureFixture) -> None:
    machine()
    with caplog.at_level(logging.WARNING, "farfield"):
        assert fonts.shown_names([WALK, "run", RUN]) == ["class 0", "run", "class 2"]
        fonts.pillow_font(RUN, 12)
    [record] = caplog.records
    assert f"has all characters of '{WALK}'" in record.getMessage()
    assert "fonts-noto-cjk" in record.getMessage()


@pytest.mark.slow
def test_placeholder_fonts_are_ignored(tmp_path: Path) -> None:
    """The system's own search, in a fresh process whose user has installed fonts just now."""
    folder = tmp_path / "share" / "fonts"
    folder.mkdir(parents=True)
    letter = "\ua4d0"  # Lisu, which few machines have
    for name in ("LastResort", "AAdobeBlank", "Bold Lisu", "Some Lisu"):
        write_font(folder / f"{name}.ttf", letter, advance=1000)
    (folder / "broken.ttf").write_bytes(b"no font")
    code = (
        "from farfield import fonts; import pathlib;"
        f"print([p for p in fonts._system_fonts() if '{folder}' in p]); print(fonts.shown_names(['{letter}']))"
    )
    environment = {"XDG_DATA_HOME": str(tmp_path / "share"), "MPLCONFIGDIR": str(tmp_path), "PYTHONUTF8": "1"}
    environment["PYTHONPATH"] = str(Path(fonts.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    first, second = done.stdout.splitlines()
    assert [Path(p).stem for p in eval(first)] == ["Some Lisu", "broken", "Bold Lisu"]
    assert second == f"['{letter}']"
