"""Hard windows: parts of training videos that a network has scored wrongly, and that training draws more often.

The windows are rows of a CSV file with the columns

    path,start_seconds,end_seconds,label,error

`farfield.evaluation.hard_negatives` (`farfield test --timeline --write_hard_negatives`) writes this file.
"""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from farfield.errors import FarfieldError

ErrorKind = Literal["false_positive", "missed"]


@dataclass(frozen=True)
class HardWindow:
    """A window [start, end) of a video, and one class for which a network's prediction was wrong in the window.

    Attributes:
        path: path of the video, spelled as in the manifest.
        start_seconds: start of the window.
        end_seconds: end of the window.
        label: the class.
        error: "false_positive" if the class was predicted, though no segment of the class overlaps the window; "missed"
            if the class was not predicted, though its segments cover the whole window.
    """

    path: str
    start_seconds: float
    end_seconds: float
    label: str
    error: ErrorKind


COLUMNS = tuple(field.name for field in fields(HardWindow))
"""Columns of a file of hard windows."""


def read_hard_windows(path: str | Path) -> list[HardWindow]:
    """Read a file of hard windows.

    Raises:
        FarfieldError: for a missing file, missing columns, or an invalid row; the message names the row's line.
    """
    path = Path(path)
    if not path.is_file():
        raise FarfieldError(
            f"there is no file of hard windows at {path}. `farfield test --timeline --write_hard_negatives` writes it."
        )
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            found = [name.strip() for name in rows.fieldnames or []]
            if missing := [name for name in COLUMNS if name not in found]:
                raise FarfieldError(
                    f"{path} has no column {missing[0]!r}; a file of hard windows starts with {','.join(COLUMNS)!r}."
                )
            rows.fieldnames = found
            return [_window(row, path, rows.line_num) for row in rows]
    except csv.Error as error:
        raise FarfieldError(
            f"{path} is not a CSV file: {error}. Write it again with `farfield test --timeline --write_hard_negatives`."
        ) from error


def content_hash(path: str | Path) -> str:
    """Return a hash of the file's content, to detect a change when a run is resumed."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _window(row: dict[str, str | None], path: Path, line: int) -> HardWindow:
    values = {name: (row[name] or "").strip() for name in COLUMNS}
    start, end = (_seconds(values[name]) for name in ("start_seconds", "end_seconds"))
    if not 0 <= start < end < math.inf:
        raise FarfieldError(
            f"{path}, line {line}: the window is from {values['start_seconds']!r} to {values['end_seconds']!r}; it "
            "needs 0 <= start_seconds < end_seconds."
        )
    error = values["error"]
    if error not in get_args(ErrorKind):
        raise FarfieldError(f"{path}, line {line}: error is {error!r}; it must be {' or '.join(get_args(ErrorKind))}.")
    return HardWindow(values["path"], start, end, values["label"], error)  # type: ignore[arg-type]  # checked above


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
