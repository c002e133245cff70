"""CSV logs that are written row by row and continue when a run is resumed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farfield.atomic_write import atomic_write


def append_row(path: Path, row: list[Any]) -> None:
    """Append a row to a CSV file."""
    with path.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(row)


def start_log(path: Path, columns: Sequence[str], last_step: int) -> None:
    """Write the header of a new log, or drop the rows after `last_step` from an existing one.

    A resumed run repeats the steps after `last_step` and writes their rows again. Incomplete rows, which a killed run
    may leave, are dropped too.
    """
    rows: list[list[str]] = []
    if path.is_file():
        with path.open(newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
        named = [dict(zip(header, line, strict=True)) for line in lines if len(line) == len(header)]
        rows = [[row.get(name, "") for name in columns] for row in named]  # an earlier version has other columns
    step_column = list(columns).index("step")
    kept = [row for row in rows if int(row[step_column]) <= last_step]
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([list(columns), *kept])
