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


def rename(file: str, *, names: dict[str, str] | None = None, size: int = 3) -> int:
    """Rename columns.

    Args:
        file: a table.
        names: new names by old ones.
        size: size.
    """
    return len(names or {}) + size + len(file)


def names_of(*words: str) -> Any:
    return parse(rename, words, prog="rename", positionals={"file": None})["names"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--names", "path=file,label=action"], {"path": "file", "label": "action"}),
        (["--names=path=file, label = the action "], {"path": "file", "label": "the action"}),
        (["--names", "label=1,path=true,end=a=b"], {"label": "1", "path": "true", "end": "a=b"}),
        (["--names", '{"path": "a, b"}'], {"path": "a, b"}),
        (['--names={"path": "a=b"}'], {"path": "a=b"}),
        (["--names", "null"], None),
        ([], None),
    ],
)
def test_a_mapping_of_text_is_written_as_pairs_or_json(words: list[str], names: dict[str, str] | None) -> None:
    assert names_of("a.csv", *words, "--size", "5") == names
    assert names_of(*words, "--size=5", "a.csv") == names
    assert names_of(*words, "a.csv") == names


@pytest.mark.parametrize(
    "text",
    [
        "path",
        "path:file",
        "path=",
        "=file",
        "path=file,",
        "path=a,path=b",
        "path=a,b",
        "{path: a}",
        '{"path": 1}',
        "{}",
    ],
)
def test_other_words_are_no_mapping(text: str) -> None:
    for words in (["--names", text], [f"--names={text}"]):
        with pytest.raises(FarfieldError) as raised:
            names_of("a.csv", *words)
        assert str(raised.value) == (
            f"names is {text!r}; it must be name=value pairs separated by commas, each name once, such as "
            '--names a=b,c=d. If a value contains a comma, write JSON: --names \'{"a": "b, c"}\'.'
        )


def test_a_mapping_without_value_is_refused() -> None:
    with pytest.raises(FarfieldError, match="expected one argument"):
        names_of("a.csv", "--names", "--size=5")


def test_the_help_shows_how_to_write_a_mapping(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        names_of("--help")
    assert "(type: name=value,... | null, default: null)" in " ".join(capsys.readouterr().out.split())
