"""A command's options come from its library function and from its own parameters."""

from __future__ import annotations

from typing import Any

import pytest

from farfield.errors import FarfieldError
from farfield.options.parser import parse, runs


def measure(
    video: str, *, point: tuple[float, float] | None = None, size: int = 3, exact: bool = False, progress: bool = True
) -> None:
    """Measure a video.

    Args:
        video: a video.
        point: y and x.
        size: size in pixels.
        exact: measure exactly.
        progress: show progress bars.
    """


@runs(measure, replaced=("video", "point"))
def command(clip: str, *, point: str | None = None, json: bool = False, **options: Any) -> int:
    """Measure.

    Args:
        clip: a clip.
        point: Y,X.
        json: print JSON.
    """
    measure(clip, point=None, **options)
    return 0


def given(*words: str) -> dict[str, Any]:
    return parse(command, words, prog="measure", positionals={"clip": None})


def test_options_of_the_library_function_and_of_the_command() -> None:
    assert given("a.mp4") == {"clip": "a.mp4", "point": None, "size": 3, "exact": False, "json": False}
    assert given("a.mp4", "--point", "4,5", "--size", "7", "--exact", "--json") == {
        "clip": "a.mp4",
        "point": "4,5",
        "size": 7,
        "exact": True,
        "json": True,
    }


@pytest.mark.parametrize("name", ["video", "progress"])
def test_replaced_parameters_and_progress_are_no_options(name: str) -> None:
    with pytest.raises(FarfieldError, match=f"there is no option {name}"):
        given("a.mp4", f"--{name}", "b.mp4")


def test_the_help_is_of_the_library_function_but_for_replaced_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        given("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Measure a video." in text
    assert "--size SIZE size in pixels." in text
    assert "--point POINT Y,X." in text
    assert "y and x" not in text
