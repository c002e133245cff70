"""Read class names from a file, or return those of Kinetics-400."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from farfield.curation.text_files import read_text
from farfield.errors import FarfieldError
from farfield.kinetics_labels import kinetics400_labels
from farfield.untrusted_json import JsonError, parse_json


@dataclass(frozen=True)
class ClassList:
    """Class names that were read from a file.

    Attributes:
        names: class names, in the order of their numbers or, if the file has no numbers, in the order of the file.
        first: number of the first class, 0 or 1; None if the file has no numbers.
    """

    names: list[str]
    first: int | None


def read_class_list(path: str | Path) -> ClassList:
    """Read class names from a text file (one line `name` or `number name` per class), a JSON file or a CSV file.

    Lines count as numbered if there are at least two of them, every line begins with a number, and the numbers run from
    0 or 1 without a gap, in any order, as in UCF101's classInd.txt. A .json file maps names to numbers, as PySlowFast's
    does, or is a list of names. A .csv file has lines `number,name`, with or without a header line.

    Raises:
        FarfieldError: for a missing file, a file that is not UTF-8 text, JSON that is neither a list of names nor
            an object that maps names to numbers, or a name that occurs twice or contains `|`.
    """
    content = read_text(Path(path), "Give a file with one class name per line.", kind="file of class names at ")
    if Path(path).suffix.lower() == ".json":
        content = _lines_of_json(content, Path(path))
    lines = [(number, line.strip()) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
    separator = "," if Path(path).suffix.lower() == ".csv" else r"\s+"
    if separator == "," and lines and re.fullmatch(r"[A-Za-z_]+,[A-Za-z_]+", lines[0][1]):
        lines = lines[1:]  # the names of the columns
    numbered = [re.fullmatch(rf"(\d+){separator}\s*(\S.*)", line) for _, line in lines]
    names = {int(each[1]): each[2] for each in numbered if each}
    first = min(names, default=None)
    if first not in (0, 1) or len(lines) < 2 or sorted(names) != list(range(first, first + len(lines))):
        _check_names(path, lines)
        return ClassList([line for _, line in lines], None)
    _check_names(path, [(number, each[2]) for (number, _), each in zip(lines, numbered, strict=True) if each])
    return ClassList([names[number] for number in sorted(names)], first)


def _lines_of_json(content: str, path: Path) -> str:
    """Convert JSON to lines: `number name` for an object that maps names to numbers, `name` for a list of names."""
    try:
        classes = parse_json(content)
    except JsonError as error:
        raise FarfieldError(
            f"{path} cannot be read: {error}. Give class names as JSON, or as a text file with one name per line."
        ) from error
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        return "\n".join(classes)
    if isinstance(classes, dict) and all(str(number).isdecimal() for number in classes.values()):
        return "\n".join(f"{number} {name}" for name, number in classes.items())
    raise FarfieldError(
        f"{path} must be a JSON object that maps class names to their numbers, or a JSON list of names."
    )


def _check_names(path: str | Path, lines: list[tuple[int, str]]) -> None:
    """Raise a `FarfieldError` if a class name occurs twice or contains `|`; `lines` are (line number, name)."""
    places: dict[str, list[int]] = {}
    for number, name in lines:
        if "|" in name:
            raise FarfieldError(
                f"{path}, line {number}: the class name {name!r} contains '|', which separates labels in a manifest. "
                "Rename the class."
            )
        places.setdefault(name, []).append(number)
    twice = {name: numbers for name, numbers in places.items() if len(numbers) > 1}
    if twice:
        where = "; ".join(f"{name!r} on lines {', '.join(map(str, twice[name]))}" for name in list(twice)[:5])
        more = f"; and {len(twice) - 5} more" if len(twice) > 5 else ""
        raise FarfieldError(
            f"{path} has a class name more than once: {where}{more}. Equal names would merge classes: give each class "
            "its own name, or remove the duplicate."
        )


def read_class_names(path: str | Path) -> list[str]:
    """Read class names from a text, JSON or CSV file; `read_class_list` describes the files and the errors."""
    return read_class_list(path).names


def find_class_names(class_file: str | Path) -> list[str]:
    """Return the classes of Kinetics-400 if `class_file` is "kinetics400", else read a file; see `read_class_list`."""
    return kinetics400_labels() if str(class_file) == "kinetics400" else read_class_names(class_file)
