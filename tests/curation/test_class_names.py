from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farfield.curation.class_names import ClassList, read_class_list, read_class_names
from farfield.errors import FarfieldError


def test_every_command_refuses_duplicate_class_names(
    tmp_path: Path,
    run_farfield: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Gym99's map has "(BB) salto backward tucked" on lines 59 and 71."""
    names = [f"class {number}" for number in range(99)]
    names[58] = names[70] = "(BB) salto backward tucked"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gym99.txt").write_text("\n".join([*names[:70], f"{names[70]}  ", *names[71:]]) + "\n")
    (tmp_path / "list.txt").write_text("a.mp4 58\nb.mp4 70\n")
    (tmp_path / "m.csv").write_text("path,label\na.mp4,jump\n")
    (tmp_path / "weights.pth").write_bytes(b"")
    for words in (
        [
            "data",
            "index",
            ".",
            "out.csv",
            "--format",
            "mmaction2",
            "--annotations",
            "list.txt",
            "--labels",
            "gym99.txt",
        ],
        ["data", "subset", "m.csv", "out.csv", "--class_file", "gym99.txt"],
        ["data", "verify", "m.csv", "--class_file", "gym99.txt"],
        ["convert", "weights.pth", "out.ckpt", "--labels", "gym99.txt"],
    ):
        assert run_farfield(*words) == 2
        error = capsys.readouterr().err
        assert (
            "gym99.txt has a class name more than once: '(BB) salto backward tucked' on line 59 and line 71. " in error
        )
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()


def test_lines_may_begin_with_the_numbers_of_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    for text, names, first in (
        ("1 Jump\r\n2 Run Away\r\n", ["Jump", "Run Away"], 1),
        ("1 b\n0 a\n", ["a", "b"], 0),
        ("1 b\n3 a\n", ["1 b", "3 a"], None),
        ("2 b\n3 a\n", ["2 b", "3 a"], None),
        ("1 man\nno man\n", ["1 man", "no man"], None),
        ("1 man\n", ["1 man"], None),
    ):
        path.write_bytes(text.encode())
        assert (read_class_list(path).names, read_class_list(path).first) == (names, first)
        assert read_class_names(path) == names
    path.write_text("1 man\n2 man\n")
    with pytest.raises(FarfieldError, match="'man' on line 1 and line 2"):
        read_class_list(path)


def test_a_separator_of_labels_in_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("open\nopen|close\n")
    with pytest.raises(FarfieldError, match=r"line 2: the class name 'open\|close' contains '\|'"):
        read_class_names(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        ("names.json", '{"b": 1,\n "a": 0}', 0),  # PySlowFast's
        ("names.json", '["a", "b"]', None),
        ("names.csv", "id,name\n0,a\n1,b\n", 0),
        ("names.csv", "1,a\n2,b\n", 1),
        ("names.csv", "a\nb\n", None),
    ],
)
def test_json_and_csv(tmp_path: Path, name: str, text: str, first: int | None) -> None:
    (tmp_path / name).write_text(text)
    found = read_class_list(tmp_path / name)
    assert (found.names, found.first) == (["a", "b"], first)


@pytest.mark.parametrize("text", ['{"a": 0', '{"a": "x"}', "[1, 2]", "7"])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(FarfieldError, match=r"names\.json (cannot be read: it is not JSON|must be a JSON object)"):
        read_class_list(tmp_path / "names.json")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("names.json", '{"run": 0, "walk": 5}', "2 classes, with numbers up to 5, but none has the number 1"),
        ("names.json", '{"run": 0, "walk": 0}', "2 classes, with numbers up to 0, but none has the number 1"),
        ("names.json", '{"run": 2, "walk": 3}', "2 classes, with numbers up to 3, but none has the number 0"),
        ("names.json", '{"run": 7}', "one class, with numbers up to 7, but none has the number 0"),
        ("names.csv", "0,run\n5,walk\n", "2 classes, with numbers up to 5, but none has the number 1"),
        ("names.csv", "class id,class name\n0,run\n5,walk\n", "none has the number 1"),
        ("names.csv", "0,run\n1,\n2,walk\n", "line 2: the name of the class is empty"),
        ("names.csv", "0,run\n1,walk, fast\n", r"line 2: the row has the fields \['1', 'walk', 'fast'\]"),
        ("names.csv", "0,run\nwalk\n", r"line 2: the row has the fields \['walk'\]"),
        ("names.csv", "id,name\n", r"line 1: the row has the fields \['id', 'name'\]"),
        ("names.json", '{"run": 0, "walk": 1, "run": 2}', "'run' on entry 1 and entry 3"),
        ("names.json", '{"run": 0, "run ": 1}', "'run' on entry 1 and entry 2"),
        ("names.json", '{"": 0}', "entry 1: the name of the class is empty"),
    ],
)
def test_what_would_be_a_silent_wrong_answer_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    """Names such as "0 run", and numbers that are shifted."""
    (tmp_path / name).write_text(text)
    with pytest.raises(FarfieldError, match=rf"{name}.*{message}"):
        read_class_list(tmp_path / name)


def test_odd_files(tmp_path: Path) -> None:
    for name, text, names, first in (
        ("one.json", '{"run": 0}', ["run"], 0),
        ("one.csv", "1,run\n", ["run"], 1),
        ("quoted.csv", '"0","run, ""fast"""\n1,5" wide\n', ['run, "fast"', '5" wide'], 0),
        ("header.csv", '"class id","class name"\r\n1,run\r\n2,walk\r\n', ["run", "walk"], 1),
        ("only_names.csv", '"run, fast"\nopen\n', ["run, fast", "open"], None),
        ("list.json", '["1 man", "2 men"]', ["1 man", "2 men"], None),
        ("lines.json", '["run\\n", "walk\\n", ""]', ["run", "walk"], None),
        ("kinetics.json", r'{"\"riding a bike\"": 1, "\"zumba\"": 2}', ["riding a bike", "zumba"], 1),
    ):
        (tmp_path / name).write_bytes(text.encode())
        assert read_class_list(tmp_path / name) == ClassList(names, first)
