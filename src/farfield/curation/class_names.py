"""Read class names from a file, or return those of Kinetics-400."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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


class _Entry(NamedTuple):
    """A class in a file: its number or None, its name, and its place in the file, such as "line 3"."""

    number: int | None
    name: str
    place: str


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of a JSON object, in which a key may come twice."""


def read_class_list(path: str | Path) -> ClassList:
    """Read class names from a text file (one line `name` or `number name` per class), a JSON file or a CSV file.

    A .json file is an object that maps names to numbers, as PySlowFast's, or a list of names. A .csv file has rows
    `number,name`, with or without a header, or rows of a name only. The numbers of n classes are 0 to n - 1 or 1 to n,
    in any order. Quotation marks around a name in JSON are removed: those of Kinetics that go around have them.

    The lines of a text file are read as `number name` if there are at least two, each of them begins with a number and
    white space, and these numbers are 0 to n - 1 or 1 to n, as in UCF101's classInd.txt. Otherwise each whole line,
    with any number in it, is a name.

    Raises:
        FarfieldError: for a missing file, a file that is not UTF-8 text, JSON that is neither a list of names nor
            an object that maps names to numbers, a .csv file with other rows, numbers in a .json or .csv file that are
            not 0 to n - 1 or 1 to n, or a name that is empty, occurs twice or contains `|`.
    """
    path = Path(path)
    content = read_text(path, "Give a file with one class name per line.", kind="file of class names at ")
    read = {".json": _of_json, ".csv": _of_csv}.get(path.suffix.lower(), _of_text)
    entries = read(content, path)
    _check_names(path, entries)
    numbers = [entry.number for entry in entries if entry.number is not None]
    if not numbers:
        return ClassList([entry.name for entry in entries], None)
    _check_numbers(path, numbers)
    return ClassList([name for _, name, _ in sorted(entries)], min(numbers))


def _of_text(content: str, path: Path) -> list[_Entry]:
    lines = [(f"line {i}", line.strip()) for i, line in enumerate(content.split("\n"), start=1) if line.strip()]
    entries = []
    for place, line in lines:
        match = re.fullmatch(r"([0-9]{1,9})\s+(\S.*)", line)
        if match:
            entries.append(_Entry(int(match[1]), match[2], place))
    are_numbered = len(lines) >= 2 and len(entries) == len(lines)
    if are_numbered and _missing([each.number for each in entries if each.number is not None]) is None:
        return entries
    return [_Entry(None, line, place) for place, line in lines]


def _of_csv(content: str, path: Path) -> list[_Entry]:
    reader = csv.reader(content.splitlines(keepends=True))
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise FarfieldError(f"{path} cannot be read, line {reader.line_num}: {error}. {_CSV}") from error
    if len(rows) > 1 and _is_numbered(rows[1][1]) and not _is_numbered(rows[0][1]):
        rows = rows[1:]  # the names of the columns
    has_numbers = bool(rows) and _is_numbered(rows[0][1])
    entries = []
    for line, row in rows:
        if not (_is_numbered(row) if has_numbers else len(row) == 1):
            raise FarfieldError(f"{path}, line {line}: the row has the fields {row}. {_CSV}")
        entries.append(_Entry(int(row[0]) if has_numbers else None, row[-1], f"line {line}"))
    return entries


_CSV = "Give rows `number,name`, or names only; put a name with a comma in quotation marks."


def _is_numbered(row: list[str]) -> bool:
    return len(row) == 2 and re.fullmatch("[0-9]{1,9}", row[0]) is not None


def _of_json(content: str, path: Path) -> list[_Entry]:
    try:
        classes = parse_json(content, object_pairs_hook=_Pairs)
    except JsonError as error:
        raise FarfieldError(
            f"{path} cannot be read: {error}. Give class names as JSON, or as a text file with one name per line."
        ) from error
    if isinstance(classes, _Pairs) and all(re.fullmatch("[0-9]{1,9}", str(number)) for _, number in classes):
        pairs = [(int(number), name) for name, number in classes]
        return [_Entry(number, _without_quotes(name), f"entry {i}") for i, (number, name) in enumerate(pairs, start=1)]
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        return [
            _Entry(None, _without_quotes(name), f"entry {i}") for i, name in enumerate(classes, start=1) if name.strip()
        ]
    raise FarfieldError(
        f"{path} must be a JSON object that maps class names to their numbers, or a JSON list of names."
    )


def _without_quotes(name: str) -> str:
    quoted = re.fullmatch(r'\s*"([^"]*)"\s*', name)
    return (quoted[1] if quoted else name).strip()


def _missing(numbers: list[int]) -> int | None:
    """Return the first number that no class has, counted from 0 or 1; None if each class has one of its own."""
    first = 1 if min(numbers) == 1 else 0
    return next((each for each in range(first, first + len(numbers)) if each not in numbers), None)


def _check_numbers(path: Path, numbers: list[int]) -> None:
    missing = _missing(numbers)
    if missing is not None:
        shown = f"{len(numbers)} classes" if len(numbers) > 1 else "one class"
        raise FarfieldError(
            f"{path} has {shown}, with numbers up to {max(numbers)}, but none has the number {missing}. Number classes "
            "from 0 or from 1, without gaps and repetitions, or give a list of names without numbers."
        )


def _check_names(path: Path, entries: list[_Entry]) -> None:
    """Raise a `FarfieldError` if a class name is empty, occurs twice or contains `|`."""
    places: dict[str, list[str]] = {}
    for _, name, place in entries:
        if not name:
            raise FarfieldError(f"{path}, {place}: the name of the class is empty. Name the class, or remove it.")
        if "|" in name:
            raise FarfieldError(
                f"{path}, {place}: the class name {name!r} contains '|', which separates labels in a manifest. "
                "Rename the class."
            )
        places.setdefault(name, []).append(place)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    if twice:
        where = "; ".join(f"{name!r} on {' and '.join(twice[name])}" for name in list(twice)[:5])
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
