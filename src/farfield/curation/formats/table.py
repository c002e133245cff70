"""Read tables with any column names: CSV, TSV or JSON lines, with one row for each video or segment.

    file,action,begin,finish
    run/a.mp4,run|laugh,0:00:01.5,4

For this table, the option `columns` is path=file,label=action,start=begin,end=finish.

The file's suffix determines how it is read: .csv, .tsv or .jsonl (one JSON object per line).
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from farfield.curation.folder_scan import has_video_suffix
from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.segments import parse_seconds
from farfield.curation.text_files import read_text
from farfield.data.manifest_csv import check_length
from farfield.data.video_record import VideoRecord, split_labels
from farfield.errors import FarfieldError, nearest

FIELDS = {"path": "path", "label": "label", "start": "start_seconds", "end": "end_seconds", "group": "group"}
"""Column of each field unless `columns` names another; the defaults are the columns of a manifest."""

REQUIRED = ("path", "label")

_NAMED_LIKE = {
    "start": r"((t|time)[ _-]?)?(start|begin|onset)([ _-]?(time|stamp|timestamp|s|sec|secs|seconds?|ms|frame))?",
    "end": r"((t|time)[ _-]?)?(end|stop|finish|offset)([ _-]?(time|stamp|timestamp|s|sec|secs|seconds?|ms|frame))?",
    "group": r"(group|person|subject|source)([ _-]?(id|name|video))?",
}
"""For each optional field: names of columns that may be meant for it, in any case."""

log = logging.getLogger("farfield")

Row = Mapping[str, Any]
"""Values by column: text, or any JSON value."""


def read_table(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a table; yield a record for each row.

    Paths are absolute or relative to `root`. If a path has no video suffix and is not a file, it stands for a folder of
    pictures at this path, or for a video under `root` with this path and any video suffix. If the path is a name
    without a folder, the pictures or the video may lie anywhere under `root`.

    Several labels are separated by `|` or given as a JSON list; an empty label, null or [] means none of the classes.
    Times are in seconds or HH:MM:SS(.s).

    `columns` may name several columns for the label, such as label=verb+noun. The label of a row then has the form
    `verb:open|noun:door`, which `multi_head` networks need.

    Raises:
        FarfieldError: for a file with another suffix, a column that the file does not have, or an invalid value.
    """
    file = source.annotations
    if file.suffix.lower() not in READERS:
        raise FarfieldError(
            f"{file} has the suffix {file.suffix!r}; it must be one of {', '.join(READERS)}. Convert the table."
        )
    names, rows = READERS[file.suffix.lower()](file)
    if not names:
        raise FarfieldError(f"{file} is empty. Give a table with one row for each video or segment.")
    columns = choose_columns(source, names)
    for line, row in rows:
        record = read_row(source, row, columns, f"{file}, line {line}")
        if record is not None:
            yield record


def read_row(source: AnnotationSource, row: Row, columns: Mapping[str, str], where: str) -> VideoRecord | None:
    """Return the record of a row.

    Args:
        source: videos, annotations and options of the collection.
        row: values of the row, by column.
        columns: name of the table's column, by manifest field. Fields that the table lacks have no entry.
        where: file and line, for error messages.

    Returns:
        The record. The result is None, and the row is added to `source.left_out`, in two cases: the path fits several
        videos, or the label combines several columns and one of them is empty.
    """
    values = {field: row.get(column) for field, column in columns.items()}
    names = {field: f"{where}: {column}" for field, column in columns.items()}
    path = find_video(source, read_value(values["path"], names["path"]), where)
    if path is None:
        return None
    label = read_labels(row, columns["label"], where)
    if label is None:
        source.left_out.append((path, NO_LABEL))
        return None
    start, end = (read_time(values.get(field), names.get(field, where)) for field in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise FarfieldError(
            f"{where}: the segment [{start or 0:g}, {end:g}) is empty. The end must be after the start."
        )
    group = read_value(values.get("group"), names.get("group", where))
    return VideoRecord(path, label, start, end, group=group or None)


def choose_columns(source: AnnotationSource, names: list[str]) -> dict[str, str]:
    """Map each manifest field to the name of the file's column that holds it.

    For the field `label`, the name may be several columns joined by +. Fields that the file lacks have no entry.
    `names` are all columns of the file.
    """
    if unknown := [field for field in source.columns if field not in FIELDS]:
        raise FarfieldError(f"columns has an unknown field {unknown[0]!r}. {nearest(unknown[0], FIELDS)}")
    columns = {field: _default_column(field, names) for field in FIELDS} | dict(source.columns)
    wanted = [(field, name) for field, given in columns.items() for name in _column_names(field, given, names)]
    for field, name in wanted:
        if name not in names and (field in REQUIRED or field in source.columns):
            single = len(names) == 1 and re.search(r"[;,\t|]", names[0])
            remedy = (
                f"Separate values by commas in a .csv file and by tabs in a .tsv file, not by {single[0]!r}."
                if single
                else f"Give the name of the column with the option columns, for example {field}={names[0]}."
            )
            raise FarfieldError(
                f"{source.annotations} has no column {name!r}, from which {field} is read. {nearest(name, names)} "
                f"{remedy}"
            )
    found = {
        field: given
        for field, given in columns.items()
        if all(name in names for name in _column_names(field, given, names))
    }
    read = {name for field, given in found.items() for name in _column_names(field, given, names)}
    for field, pattern in _NAMED_LIKE.items():
        similar = [name for name in names if name not in read and re.fullmatch(pattern, name, re.IGNORECASE)]
        if field not in found and similar:
            log.warning(
                "%s: the column %s is not read. If it holds the %s, add the option --columns %s=%s.",
                source.annotations, similar[0], field, field, similar[0],
            )  # fmt: skip
    return found


def _default_column(field: str, names: Sequence[str]) -> str:
    """Return the name of the column that holds a field unless the option `columns` names another.

    It is the name in a manifest or the name of the field, if need be in another case. If the table has neither, it is
    the name in a manifest.
    """
    wanted = (FIELDS[field], field)
    exact = [name for name in wanted if name in names]
    return next(iter(exact or [name for each in wanted for name in names if name.casefold() == each]), FIELDS[field])


def _column_names(field: str, given: str, names: Container[str]) -> list[str]:
    """Return the names of the columns that hold a field: one or, for the field `label`, several.

    Args:
        field: field of the manifest.
        given: name of the column, or for the field `label` several names joined by +. If `given` as a whole, with its
            plus signs, is the name of one column, this column is used.
        names: columns of the table.
    """
    return given.split("+") if field == "label" and given not in names else [given]


def read_delimited(path: Path, delimiter: str) -> tuple[list[str], list[tuple[int, Row]]]:
    """Read a CSV or TSV file; return the columns, and (line number, values) of each row."""
    content = read_text(path, "Give a table with a line of column names.")
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise FarfieldError(f"{path}, line {reader.line_num} cannot be read: {error}. Correct the line.") from error
    if len(set(names)) < len(names):
        raise FarfieldError(f"{path} has a column twice: its columns are {', '.join(names)}. Rename one of them.")
    for line, row in rows:
        check_length(row, names, path, line)
    return names, [(line, dict(zip(names, row, strict=True))) for line, row in rows]


def read_json_lines(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Read a file with one JSON object per line; return the keys of all objects, and (line number, object) of each."""
    rows: list[tuple[int, Row]] = []
    for line, text in enumerate(read_text(path, "Give a file with one JSON object per line.").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise FarfieldError(f"{path}, line {line}: {text[:80]!r} is not a JSON object. Give one object per line.")
        rows.append((line, row))
    return list(dict.fromkeys(name for _, row in rows for name in row)), rows


READERS: dict[str, Callable[[Path], tuple[list[str], list[tuple[int, Row]]]]] = {
    ".csv": lambda path: read_delimited(path, ","),
    ".tsv": lambda path: read_delimited(path, "\t"),
    ".jsonl": read_json_lines,
}
"""Function that reads a table, by suffix of the table's file."""


def find_video(source: AnnotationSource, path: str, where: str) -> str | None:
    """Return the path of a video as `read_table` finds it; None if the path fits several videos."""
    if not path:
        raise FarfieldError(f"{where}: the path is empty. Every row needs a path.")
    if has_video_suffix(path) or (source.root / path).is_file():
        return path
    name = PurePath(path).name
    if name == path:
        return source.find_video(name, suffix="")
    wanted = source.root / path
    found = [each for each in source.files_by_stem.get(name, []) if (source.root / each).with_suffix("") == wanted]
    if len(found) > 1:
        source.leave_out_ambiguous(path, found)
        return None
    return found[0] if found else path


def read_value(value: object, what: str) -> str:
    """Return a value as text; "" for null. `what` names file, line and column in messages."""
    if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
        raise FarfieldError(f"{what} is {value!r}; it must be text or a whole number.")
    return "" if value is None else str(value).strip()


def read_labels(row: Row, columns: str, where: str) -> str | None:
    """Return the label of a row: the value of one column, or `column:value|...` for several columns joined by +.

    The result is None if one of several columns is empty.
    """
    if columns in row or "+" not in columns:
        return read_label(row.get(columns), f"{where}: {columns}")
    labels = {name: read_label(row.get(name), f"{where}: {name}") for name in columns.split("+")}
    if not all(labels.values()):
        return None
    return "|".join(f"{name}:{each}" for name, label in labels.items() for each in split_labels(label))


def read_label(value: object, what: str) -> str:
    """Return a label as text; the labels of a list are joined by `|`."""
    labels = value if isinstance(value, list) else [value]
    return "|".join(text for label in labels if (text := read_value(label, what)))


def read_time(value: object, what: str) -> float | None:
    """Convert a time, given in seconds or as HH:MM:SS(.s), to seconds; None for an empty value."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    clock = re.fullmatch(r"\s*(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)\s*", value) if isinstance(value, str) else None
    seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else parse_seconds(value)
    if seconds is None or seconds < 0:
        hint = " Write a decimal point, not a comma." if isinstance(value, str) and "," in value else ""
        raise FarfieldError(f"{what} is {value!r}; it must be seconds >= 0 or HH:MM:SS(.s).{hint}")
    return seconds
