"""Read text files that a user gives: annotations and lists of class names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from farfield.errors import FarfieldError


def read_text(path: Path, needed: str, *, kind: str = "file ") -> str:
    """Read a UTF-8 text file.

    Args:
        path: file to read.
        needed: last sentence of the error message for a missing file, such as "Give the published list."
        kind: kind of file for the message "there is no {kind}{path}", such as "file of class names at ".

    Raises:
        FarfieldError: for a missing file, or a file that is not UTF-8 text.
    """
    if not path.is_file():
        raise FarfieldError(f"there is no {kind}{path}. {needed}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FarfieldError(
            f"{path} is not UTF-8 text (byte {error.start} cannot be decoded). Save it as UTF-8. {needed}"
        ) from error


def read_csv(path: Path, needed_columns: Iterable[str], needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) for each row of a CSV file with a header; spaces around values are removed.

    Args:
        path: file to read.
        needed_columns: columns that the file must have.
        needed: last sentence of the error messages, such as "Give the published list."

    Raises:
        FarfieldError: for a missing file or column, a file that is not CSV, or a row with more or fewer values than the
            header.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, needed), newline=""))
    try:
        missing = [name for name in needed_columns if name not in (reader.fieldnames or ())]
        if missing:
            columns = "column" if len(missing) == 1 else "columns"
            raise FarfieldError(f"{path} lacks the {columns} {', '.join(missing)}. {needed}")
        for row in reader:
            if None in row or None in row.values():
                raise FarfieldError(
                    f"{path}, line {reader.line_num}: the row has more or fewer values than the header. {needed}"
                )
            yield reader.line_num, {name: value.strip() for name, value in row.items()}
    except csv.Error as error:
        raise FarfieldError(f"{path}, line {reader.line_num} is not CSV: {error}. {needed}") from error
