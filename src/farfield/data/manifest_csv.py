"""Read the rows of a manifest's CSV file, and check them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from farfield.data.video_record import COLUMNS, NUMBER_COLUMNS, WHOLE_NUMBER_COLUMNS
from farfield.errors import FarfieldError, nearest


def read_blocks(
    file: Iterator[str], path: Path, group_column: str, *, needs_labels: bool
) -> Iterator[dict[str, Sequence[Any]]]:
    """Yield checked rows in blocks, to limit memory. A block maps each column name to the column's values.

    Args:
        file: lines of the file.
        path: path of the file, for messages.
        group_column: column that holds the group of each video, see `read_manifest`.
        needs_labels: whether the file must have the column `label`.

    Raises:
        csv.Error: if the file is not CSV.
        FarfieldError: for a missing or unknown column, or an invalid value; the message names the line.
    """
    header = [name.strip() for name in next(csv.reader(file, strict=True, skipinitialspace=True), [])]
    ignored: set[str] = set()
    if group_column != "group" and group_column in header:
        ignored = {name for name in header if name not in COLUMNS[:-1]} - {group_column}
    if any(not name.isprintable() for name in header):
        raise csv.Error("its first line is not text")
    for name in header:
        if name not in {*COLUMNS, group_column, *ignored}:
            raise FarfieldError(f"{path} has an unknown column {name!r}. {nearest(name, COLUMNS)}")
    for name in COLUMNS[: 2 if needs_labels else 1]:
        if name not in header:
            raise FarfieldError(
                f"{path} has no column {name!r}; its first line is {','.join(header)!r}. A manifest starts with a line "
                "of column names, at least `path,label`. `farfield data index` reads other formats."
            )
    if len(set(header)) < len(header):
        name = next(name for name in header if header.count(name) > 1)
        raise FarfieldError(
            f"{path} has the column {name!r} twice: its first line is {','.join(header)!r}. Remove one of the two."
        )
    line = 2
    while lines := list(islice(file, _BLOCK)):
        text = "".join(lines).replace("\r\n", "\n")
        plain = '"' not in text and "\r" not in text
        if plain and {each.count(",") for each in lines} == {len(header) - 1}:
            # Fast path without quotes: split at commas and line ends; column i is every len(header)-th field.
            cells = text.removesuffix("\n").replace("\n", ",").split(",")
            columns: list[Sequence[str]] = [cells[i :: len(header)] for i in range(len(header))]
            numbers: Sequence[int] = range(line, line + len(lines))
        else:
            # A quoted field may continue in the next block.
            rows = csv.reader(chain(lines, file) if '"' in text else lines, strict=True, skipinitialspace=True)
            numbered: list[tuple[int, list[str]]] = []
            number = line
            try:
                for number, row in enumerate(rows, start=line):
                    if row:
                        check_length(row, header, path, number)
                        numbered.append((number, row))
            except csv.Error as error:
                raise FarfieldError(
                    f"{path}, line {number + bool(numbered)}: a quotation mark is not closed, or text follows it "
                    f"({error}). Correct the line."
                ) from error
            columns = [[row[i] for _, row in numbered] for i in range(len(header))]
            numbers = [number for number, _ in numbered]
        texts = {
            "group" if name == group_column else name: [text.strip() for text in column]
            for name, column in zip(header, columns, strict=True)
            if name not in ignored
        }
        texts.setdefault("label", [""] * len(numbers))
        yield _checked(texts, path, numbers)
        line += len(lines)


def check_length(row: Sequence[str], header: Sequence[str], path: Path, line: int) -> None:
    """Raise `FarfieldError` unless a row of a table has a value for each column of its header.

    Args:
        row: values of the row.
        header: names of the columns.
        path: file, for the message.
        line: line number of the row in the file, for the message.
    """
    if len(row) != len(header):
        raise FarfieldError(
            f"{path}, line {line}: the row has more or fewer values than the header ({len(row)} instead of "
            f"{len(header)}). Give one value for each column, and put values that contain the separator in double "
            "quotes."
        )


_BLOCK = 10_000
"""Rows in a block."""


def _checked(texts: Mapping[str, Sequence[str]], path: Path, lines: Sequence[int]) -> dict[str, Sequence[Any]]:
    """Check the columns of a block, and convert numbers.

    Args:
        texts: columns of strings.
        path: file, for messages.
        lines: line number of each row in the file.

    Raises:
        FarfieldError: for an invalid value; the message names the line.
    """
    columns: dict[str, Any] = {name: texts[name] for name in COLUMNS[:2]}
    if not all(texts["path"]):
        raise FarfieldError(
            f"{path}, line {lines[texts['path'].index('')]}: the path is empty. Every row needs a path."
        )
    for name in NUMBER_COLUMNS:
        if name not in texts or not any(texts[name]):
            continue
        numbers = np.fromiter(map(_number, texts[name]), np.float64, len(lines))
        if (numbers == _INVALID).any():
            row = int(np.argmax(numbers == _INVALID))
            raise FarfieldError(
                f"{path}, line {lines[row]}: {name} is {texts[name][row]!r}; it must be a number >= 0, or empty."
            )
        columns[name] = np.floor(numbers) if name in WHOLE_NUMBER_COLUMNS else numbers
    if "group" in texts:
        columns["group"] = texts["group"]
    if "end_seconds" in columns:
        ends = columns["end_seconds"]
        starts = np.nan_to_num(columns.get("start_seconds", ends * 0))
        if (ends <= starts).any():
            row = int(np.argmax(ends <= starts))
            raise FarfieldError(
                f"{path}, line {lines[row]}: the segment [{starts[row]}, {ends[row]}) is empty. Raise end_seconds "
                "above start_seconds."
            )
    return columns


_INVALID = -1.0


def _number(text: str) -> float:
    """Parse a number of at least 0; NaN for an empty string, `_INVALID` for anything else."""
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        return _INVALID
    return number if 0 <= number < math.inf else _INVALID
