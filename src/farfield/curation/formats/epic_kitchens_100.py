"""Read EPIC-Kitchens-100: CSV files with one row per segment; each row gives a verb class and a noun class.

Published in epic-kitchens/epic-kitchens-100-annotations on GitHub (read at commit 9a0d870) as `EPIC_100_train.csv`,
`EPIC_100_validation.csv` and `EPIC_100_test_timestamps.csv`; this last file has neither verbs nor nouns. Columns used:
`narration_id`, `participant_id` (P01), `video_id` (P01_101), `start_timestamp` and `stop_timestamp` (00:01:05.16), and
`verb_class` or `noun_class`, numbers from 0. The columns `verb` and `noun` hold words of the narration, not classes:
"pick-up" and "grab" both belong to verb class 0, "take". `EPIC_100_verb_classes.csv` (97 classes) and
`EPIC_100_noun_classes.csv` (300; 304 in version 2) have the columns `id,key,instances,category`; `key` is the name.
Videos are `<participant>/videos/<video_id>.MP4`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.text_files import read_csv
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

COLUMNS = ("participant_id", "video_id", "start_timestamp", "stop_timestamp")
_NEEDED = "Give EPIC_100_train.csv or EPIC_100_validation.csv."
_NUM_CLASSES = {"verb": (97, 97), "noun": (300, 304)}
"""Smallest and largest number of classes in the published class files, for verbs and for nouns."""


def read_epic_kitchens_100(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a CSV file of EPIC-Kitchens-100; yield a row for each segment.

    `source.label_column` is "verb", "noun" or "verb+noun". With "verb+noun", a label has the form `verb:take|noun:cup`,
    which `multi_head` networks need. `source.labels` is the file of verb or noun classes; for "verb+noun", it is the
    folder that holds both files. Without `source.labels`, class numbers take the place of names. The row's `group` is
    the participant.

    Raises:
        FarfieldError: if `source.label_column` is missing or invalid; for a missing file or column, or a malformed time
            or class; if verb classes are needed and the class file lists nouns, or the reverse.
    """
    kinds = (source.label_column or "").split("+")
    if not set(kinds) <= _NUM_CLASSES.keys() or len(set(kinds)) < len(kinds):
        raise FarfieldError(
            f"label_column is {source.label_column!r}, but each segment of EPIC-Kitchens-100 has a verb and a noun. "
            "Give label_column='verb', label_column='noun' or label_column='verb+noun'."
        )
    names = {kind: _class_names(source.labels, kind, only=len(kinds) == 1) for kind in kinds}
    for line, row in read_csv(source.annotations, COLUMNS, _NEEDED):
        where = f"{source.annotations}, line {line}"
        name = row.get("narration_id") or f"line {line} ({row['video_id']})"
        numbers = {kind: row.get(f"{kind}_class") or "" for kind in kinds}
        start, stop = (_seconds(row[column], column, where) for column in COLUMNS[2:])
        if not all(numbers.values()):
            source.left_out.append((name, NO_LABEL))
        elif stop <= start:
            source.left_out.append((name, f"its segment [{start:g}, {stop:g}) is empty"))
        elif path := source.find_video(row["video_id"], suffix=".MP4"):
            labels = {kind: _label_of(number, kind, names[kind], where) for kind, number in numbers.items()}
            label = labels[kinds[0]] if len(kinds) == 1 else "|".join(f"{kind}:{labels[kind]}" for kind in kinds)
            yield VideoRecord(path, label, start, stop, group=row["participant_id"])


def _seconds(text: str, column: str, where: str) -> float:
    """Convert a time from hours:minutes:seconds to seconds. `column` and `where` name the value in error messages."""
    time = re.fullmatch(r"(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)", text, re.ASCII)
    if time is None:
        raise FarfieldError(f"{where}: {column} is {text!r}; it must be a time such as 00:01:05.16. {_NEEDED}")
    return round(3600 * int(time[1]) + 60 * int(time[2]) + float(time[3]), 3)


def _label_of(number: str, kind: str, names: Mapping[str, str] | None, where: str) -> str:
    if not (number.isascii() and number.isdecimal()):
        raise FarfieldError(f"{where}: {kind}_class is {number!r}; it must be a whole number. {_NEEDED}")
    number = str(int(number))
    if names is not None and number not in names:
        raise FarfieldError(
            f"{where}: {kind}_class is {number}, but the class names have no such id. "
            f"Give EPIC_100_{kind}_classes.csv of EPIC-Kitchens-100."
        )
    return number if names is None else names[number]


def _class_names(labels: Path | None, kind: str, *, only: bool) -> dict[str, str] | None:
    """Return the name of each verb class or of each noun class, by class id; None if `labels` is None.

    Args:
        labels: class file; if `only` is False, the folder that holds the class files of verbs and nouns.
        kind: which names to return: "verb" or "noun".
        only: True if the rows' labels are only verbs or only nouns; False if each label has a verb and a noun.
    """
    if labels is None:
        return None
    if not only and not labels.is_dir():
        raise FarfieldError(
            f"labels is {labels}, which is not a folder. For verbs and nouns, give the folder that holds "
            "EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv."
        )
    return _read_class_names(labels if only else labels / f"EPIC_100_{kind}_classes.csv", kind)


def _read_class_names(path: Path, kind: str) -> dict[str, str]:
    """Read a file of class names; return the name of each class (column `key`) by its id.

    Raises:
        FarfieldError: for a missing file, an id or name that occurs twice, or a number of classes outside the range
            that `_NUM_CLASSES` gives for `kind`.
    """
    needed = f"Give EPIC_100_{kind}_classes.csv."
    rows = [row for _, row in read_csv(path, ("id", "key"), needed)]
    names = {row["id"]: row["key"] for row in rows}
    smallest, largest = _NUM_CLASSES[kind]
    if not smallest <= len(rows) <= largest:
        raise FarfieldError(
            f"the number of classes in {path} is {len(rows)}, but EPIC-Kitchens-100 has {smallest} {kind} classes. "
            f"{needed}"
        )
    if len(names) < len(rows) or len(set(names.values())) < len(rows):
        column = "id" if len(names) < len(rows) else "key"
        raise FarfieldError(
            f"{path} has a value twice in the column {column!r}. Equal values would merge classes. {needed}"
        )
    return names
