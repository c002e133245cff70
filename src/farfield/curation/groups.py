"""Groups of videos that must not be divided between splits, such as the videos of one person or one camera."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from farfield.curation.formats.folders import SPLITS
from farfield.data.manifest import Manifest, read_manifest
from farfield.data.video_record import COLUMNS, VideoRecord
from farfield.errors import FarfieldError


@dataclass(frozen=True)
class Siblings:
    """Pattern in file names which suggests that several videos come from one source (one recording, one person).

    Attributes:
        pattern: regular expression that finds the source's name in a file name; it can be given as the option `group`.
        sources: number of sources that the pattern finds.
        videos: number of videos whose name matches the pattern.
        example: two file names of the same source.
    """

    pattern: str
    sources: int
    videos: int
    example: list[str]


_PARTS = "part|seg|segment|scene|chunk|cut|shot|piece|clip|take|cam|camera|view"
_FORMS = (
    r"^(.+_g\d+)_c\d+",  # UCF101: v_Archery_g08_c01
    r"^(.+?)_\d+(?:\.\d+)?_\d+(?:\.\d+)?$",  # Kinetics and cut videos: <source>_<start>_<end>
    rf"^(.+?)[-_. ]?(?:{_PARTS})[-_]?\d+$",  # interview12_part3
)


def read_with_groups(source: str | Path, group: str | None, root: str | Path | None = None) -> Manifest:
    """Read a manifest and find the group of each video.

    Args:
        source: manifest.
        group: name of the manifest's column that holds the groups, or a regular expression. An expression with a
            slash is searched in the path, any other expression in the file name. The group is the text that the
            parentheses of the expression match, with a space between the texts of several pairs. If there is no such
            text, the group is the whole match. None takes the groups from the column "group", if there is one.
        root: folder of the videos; None for the manifest's folder.

    Returns:
        The manifest's rows. The field `group` of a row is None if its video has no group.

    Raises:
        FarfieldError: in these cases:

            - the manifest is invalid;
            - the expression is invalid, or matches nothing in a video's file name or path;
            - `group` is "group", and the column "group" is missing or empty;
            - `group` is None, and the file has a column that farfield does not know. If this column holds the groups,
              `group` must name it.
    """
    source = Path(source)
    extra = sorted(_extra_columns(source))
    if group is None and extra:
        raise FarfieldError(
            f"{source} has the column {extra[0]!r}, which a manifest does not have. If it holds the groups, give "
            f"group={extra[0]!r} (--group {extra[0]}). Otherwise remove the column."
        )
    column = group if group is not None and group in extra else None
    manifest = read_manifest(source, root=root, group_column=column or "group")
    if group == "group" and all(record.group is None for record in manifest):
        raise FarfieldError(
            f"group is 'group', but the column 'group' of {source} is missing or empty. Fill the column."
        )
    if group is None or column is not None or group == "group":
        return manifest
    return Manifest(find_groups(manifest, group), root=manifest.root, source=str(source))


def find_groups(records: Iterable[VideoRecord], expression: str | None) -> list[VideoRecord]:
    """Find each row's group by a regular expression for file names or paths; None leaves the groups unchanged.

    For the expression, see the argument `group` of `read_with_groups`.

    Raises:
        FarfieldError: for an invalid expression, or an expression that finds nothing in a path.
    """
    if expression is None:
        return list(records)
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise FarfieldError(
            f"group is {expression!r}, which is neither a column of the manifest nor a regular expression: {error}."
        ) from error
    return [_with_group(record, compiled) for record in records]


def _extra_columns(source: Path) -> set[str]:
    """Return the file's column names that are not columns of a manifest; an empty set for a file that is not text."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()  # read_manifest says what is wrong with it
    return {name.strip() for name in header} - set(COLUMNS)


def _with_group(record: VideoRecord, expression: re.Pattern[str]) -> VideoRecord:
    path = PurePosixPath(record.path)
    text = str(path) if "/" in expression.pattern else path.name
    found = expression.search(text)
    if found is None:
        raise FarfieldError(
            f"group {expression.pattern!r} is not a column of the manifest, and as a regular expression it finds "
            f"nothing in {text!r}. Give a column, or an expression that matches every video"
            + ("; or leave group out, to use the column 'group'." if record.group else ".")
        )
    matched = [part for part in found.groups() if part] or [found[0]]
    return replace(record, group=" ".join(matched))


def _labels(records: Iterable[VideoRecord]) -> set[str]:
    return {label for record in records for label in record.labels}


def find_siblings(records: Sequence[VideoRecord]) -> Siblings | None:
    """Find a pattern in file names which suggests that several videos come from one source (one recording, one person).

    Known patterns are `<source>_g08_c01`, `<source>_<start>_<end>`, `<source>_part3` (also clip, scene, shot and
    others) and `<person>_<class>`. A pattern must match at least half of the names, and find a source with several
    videos. The pattern `<person>_<class>` must also find at least three persons, each in several classes; any other
    pattern must find more sources than there are classes. The result is None if no pattern meets the conditions.
    """
    by_source: dict[str, list[VideoRecord]]
    for pattern in (*_FORMS, r"^([^_\-. ]+)[_\-. ]"):
        by_source = defaultdict(list)
        for path, record in {record.path: record for record in records}.items():
            found = re.search(pattern, PurePosixPath(path).stem)
            if found and found[1].casefold() not in SPLITS:
                by_source[found[1]].append(record)
        videos = sum(map(len, by_source.values()))
        sharing = [group for group in by_source.values() if len(group) > 1]
        if not sharing or videos < len({record.path for record in records}) / 2:
            continue
        labels_of = [len(_labels(group)) for group in by_source.values()]
        if pattern in _FORMS:
            enough = len(by_source) > len(_labels(records))
        else:  # a person does several actions; the name of the class would be before one only
            enough = len(by_source) > 2 and min(labels_of) > 1
        if enough:
            example = [PurePosixPath(record.path).name for record in max(sharing, key=len)[:2]]
            return Siblings(pattern.removesuffix("$"), len(by_source), videos, example)
    return None
