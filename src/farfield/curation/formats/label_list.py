"""Read lists with one line per video: a path, then numbers. The formats `pyslowfast` and `mmaction2` use this module.

Both projects split a line at spaces (or at a separator that their configuration names), and so cannot read a path that
contains spaces. Here, such a path is accepted if the video exists or the path ends in a video suffix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from farfield.curation.class_names import read_class_list
from farfield.curation.folder_scan import has_video_suffix
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.text_files import read_text
from farfield.errors import FarfieldError


@dataclass(frozen=True)
class ListLine:
    """One line of a list.

    Attributes:
        place: file name and line number, for messages.
        path: path of the video or of its folder of frames; relative to the root for a path inside the root.
        numbers: numbers after the path.
    """

    place: str
    path: str
    numbers: tuple[int, ...]


def read_list(source: AnnotationSource, form: str) -> list[ListLine]:
    """Read a list file; `form` is the text that describes a correct line in error messages.

    Raises:
        FarfieldError: for a missing file, a malformed line, or an ambiguous line: one that can be read with two
            different paths, both of which exist.
    """
    content = read_text(source.annotations, "Give a list with one line `path label` per video.")
    lines = enumerate(content.splitlines(), start=1)
    return [_split(source, number, line.strip(), form) for number, line in lines if line.strip()]


def _split(source: AnnotationSource, number: int, line: str, form: str) -> ListLine:
    """Split line number `number` of the list into a path and the labels or counts after the path.

    `form` is the text that describes a correct line in error messages.
    """
    place = f"{source.annotations}, line {number}"
    separator = r"\s*,\s*" if re.search(r",\s*\d+$", line) else r"\s+"
    readings = [(line[: gap.start()], re.split(separator, line[gap.end() :])) for gap in re.finditer(separator, line)]
    possible = [(path, rest) for path, rest in readings if path and all(re.fullmatch("[0-9]+", each) for each in rest)]
    possible.append((line, []))
    # Path.exists raises an error for a name that is too long.
    existing = [reading for reading in possible if os.path.exists(source.root / reading[0])]  # noqa: PTH110
    named = existing or [reading for reading in possible if has_video_suffix(reading[0])]
    if not named and not re.search(separator, possible[0][0]):
        named = possible[:1]
    if len(existing) > 1:
        both = " and ".join(repr(path) for path, _ in existing)
        raise FarfieldError(f"{place}: {line!r} is ambiguous: {both} both exist in {source.root}. Rename one of them.")
    if not named:
        raise FarfieldError(
            f"{place}: {line!r} must be {form}, where the label is a number. If the path contains spaces, write "
            f"`path,label`, or make sure that the video exists under {source.root}."
        )
    path, rest = named[0]
    inside = Path(path).relative_to(source.root) if Path(path).is_relative_to(source.root) else Path(path)
    return ListLine(place, inside.as_posix(), tuple(map(int, rest)))


def name_labels(source: AnnotationSource, labelled: Iterable[tuple[str, int]]) -> dict[int, str]:
    """Map each label number in a list to its class name, or to the number as text if `source.labels` is None.

    Args:
        source: options; `labels` is the file of class names, and `first_label` the number of the first class.
        labelled: (place, label number) of each label in the list; the place is the file name and line number, for error
            messages.

    Raises:
        FarfieldError: for a label without a class name, or if the number of the first class is unknown.
    """
    places: dict[int, str] = {}
    for place, label in labelled:
        places.setdefault(label, place)
    if source.first_label not in (None, 0, 1):
        raise FarfieldError(f"first_label is {source.first_label}; it must be 0 or 1.")
    if source.labels is None:
        if source.first_label is not None:
            raise FarfieldError(
                "first_label needs a file of class names. Give that file as 'labels', or leave first_label out."
            )
        return {label: str(label) for label in places}
    classes = read_class_list(source.labels)
    count = len(classes.names)
    first = classes.first if source.first_label is None else source.first_label
    if first is None and places and min(places) > 0 and max(places) == count:
        first = 1  # counted from 0, the last label would have no name
    if first is None:
        if places and min(places) > 0:
            raise FarfieldError(
                f"{source.annotations} has labels from {min(places)} to {max(places)}, but none that is 0. So it is "
                f"not known whether the first of the {count} classes in {source.labels} has the number 0 or 1. Give "
                "first_label=0 or first_label=1."
            )
        first = 0
    names = dict(enumerate(classes.names, start=first))
    for label, place in places.items():
        if label not in names:
            other = f", or give first_label={1 - first} if the list counts from {1 - first}"
            raise FarfieldError(
                f"{place}: the label is {label}, but the labels with class names are {first} to {first + count - 1}. "
                f"Add the missing class names{other if label in (0, count) else ''}."
            )
    return {label: names[label] for label in places}
