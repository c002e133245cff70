"""Read class names from a file, or return those of Kinetics-400."""

from __future__ import annotations

import csv
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

    A .json file is an object that maps names to numbers, as PySlowFast's, or a list of names. A .csv file has lines
    `number,name` or `name`, with or without a header line; names may be in quotation marks. The numbers of n classes
    are 0 to n - 1 or 1 to n, in any order.

    The lines of a text file are read as `number name` if there are at least two, each of them begins with a number and
    white space, and these numbers are 0 to n - 1 or 1 to n, as in UCF101's classInd.txt. Otherwise each whole line,
    with any number in it, is a name.

    Raises:
        FarfieldError: for a missing file, a file that is not UTF-8 text, JSON that is neither a list of names nor
            an object that maps names to numbers, numbers in a .json or .csv file that are not 0 to n - 1 or 1 to n, or
            a name that occurs twice or contains `|`.
    """
    path = Path(path)
    content = read_text(path, "Give a file with one class name per line.", kind="file of class names at ")
    if path.suffix.lower() == ".json":
        numbers, names = _of_json(content, path)
        places = list(range(1, len(names) + 1))
    else:
        lines = [(number, line.strip()) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
        is_csv = path.suffix.lower() == ".csv"
        if is_csv and lines and re.fullmatch(r"[A-Za-z_]+,[A-Za-z_]+", lines[0][1]):
            lines = lines[1:]  # the names of the columns
        places = [number for number, _ in lines]
        numbers, names = _of_lines([line for _, line in lines], "," if is_csv else r"\s+")
        if not is_csv and (len(lines) < 2 or not _is_complete(numbers)):
            numbers, names = [], [line for _, line in lines]
        if is_csv:
            names = [_unquoted(name) for name in names]
    _check_names(path, list(zip(places, names, strict=True)))
    if not numbers:
        return ClassList(names, None)
    if not _is_complete(numbers):
        raise FarfieldError(
            f"{path} has {len(numbers)} classes with the numbers {', '.join(map(str, sorted(numbers)[:10]))}"
            f"{', ...' if len(numbers) > 10 else ''}. Number them from 0 to {len(numbers) - 1} or from 1 to "
            f"{len(numbers)}, or give a list of names without numbers."
        )
    return ClassList([name for _, name in sorted(zip(numbers, names, strict=True))], min(numbers))


def _is_complete(numbers: list[int]) -> bool:
    """Return whether these are the numbers 0 to n - 1 or 1 to n, in any order."""
    return sorted(numbers) in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


def _of_lines(lines: list[str], separator: str) -> tuple[list[int], list[str]]:
    """Return the numbers and names of lines; no numbers, and whole lines as names, if a line lacks a number."""
    numbered = [match for line in lines if (match := re.fullmatch(rf"(\d+){separator}\s*(\S.*)", line))]
    if len(numbered) < len(lines):
        return [], lines
    return [int(match[1]) for match in numbered], [match[2] for match in numbered]


def _unquoted(name: str) -> str:
    """Return the content of a CSV field in quotation marks; return any other text unchanged."""
    try:
        fields = next(csv.reader([name]))
    except csv.Error:  # a field of more than 128 kB
        return name
    return fields[0].strip() if len(fields) == 1 else name


def _of_json(content: str, path: Path) -> tuple[list[int], list[str]]:
    """Return the numbers and names of a JSON object that maps names to numbers, or of a list of names: no numbers."""
    try:
        classes = parse_json(content)
    except JsonError as error:
        raise FarfieldError(
            f"{path} cannot be read: {error}. Give class names as JSON, or as a text file with one name per line."
        ) from error
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        return [], classes
    if isinstance(classes, dict) and all(str(number).isdecimal() for number in classes.values()):
        return [int(number) for number in classes.values()], list(classes)
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
