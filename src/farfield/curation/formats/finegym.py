"""Read FineGym's lists (Gym99, Gym288), with lines `<YouTube id>_E_<start>_<end>_A_<start>_<end> <label>`.

Published at https://sdolivia.github.io/FineGym (SDOlivia/FineGym on GitHub, read at commit 0331d05) as
`gym99_train_element_v1.1.txt`, `gym99_val_element.txt`, and the same for gym288.

An event is one routine in a video, such as an exercise on the beam. An element is one movement of the routine, such as
a salto. Each line of a list names an element. After E come start and end of the event in the video; after A come start
and end of the element in the event. The times are in seconds, truncated to whole numbers, so an element may begin and
end in the same second. `finegym_annotation_info_v1.1.json` has the exact times; in this file, too, the times of an
element count from the start of its event. An element has one pair of times, except for a vault, which has three pairs,
one for each stage. A vault is read as one segment, from the start of its first stage to the end of its last.

Version 1.0 of Gym99 has 20,484 elements for training and 8,521 for validation; version 1.0 of Gym288 has 22,671 and
9,646. Version 1.1 appends elements to the training lists, some of them from videos in the validation lists.

`gym99_categories.txt` names the classes, counted from 0: `Clabel:  57; set: 33; Glabel: 289; (BB) salto backward tucked
with 1 twist`. Names are not unique: a flight element of the beam and a dismount share a name once in Gym99 (Clabel 58
and 70) and three times in Gym288 (180 and 216, 181 and 217, 185 and 222). Each of these classes is therefore labelled
`<name> [Glabel <number>]`. The Glabel is the number of the class among all 530 classes of FineGym.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.json_files import read_json
from farfield.curation.text_files import read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

_ELEMENT = re.compile(r"((.{11})_(E_\d+_\d+)_(A_\d+_\d+))\s+(\d+)")
_CATEGORY = re.compile(r"Clabel:\s*(\d+);\s*set:\s*(\d+);\s*Glabel:\s*(\d+);\s*(.+)")
_TIMES = "finegym_annotation_info*.json"
_NEEDED = "Give FineGym's list of elements, for example gym99_train_element_v1.1.txt."
_NEEDED_LABELS = "Give FineGym's categories, for example gym99_categories.txt."
_NEEDED_TIMES = "Give finegym_annotation_info_v1.1.json."


@dataclass
class _Element:
    """A gymnastic element (one movement of a routine) in a list of FineGym.

    Attributes:
        name: id of the element, `<video>_<event>_<action>`.
        video: YouTube id.
        event: part of the id that gives the event's times in the video, `E_<start>_<end>`.
        action: part of the id that gives the element's times in the event, `A_<start>_<end>`.
        line: number of the first line that has this id.
        labels: class number in each line that has this id.
    """

    name: str
    video: str
    event: str
    action: str
    line: int
    labels: list[int]


def read_finegym(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a list of FineGym; yield a row for each gymnastic element (one movement of a routine).

    Videos are trimmed files `<id of the element>.mp4`, or whole videos `<YouTube id>.mp4`. For whole videos, the start
    and end of each element come from `finegym_annotation_info*.json` in the folder of the list. `source.labels` is
    FineGym's file of class names, such as gym99_categories.txt; without it, labels are class numbers. The row's `group`
    is the YouTube id.

    Raises:
        FarfieldError: for a missing file, a malformed line, a class number without a name, or if the list is of Gym99
            and the class names are of Gym288, or the reverse.
    """
    elements = _read_elements(source.annotations)
    names = None if source.labels is None else _read_categories(source.labels, source.annotations)
    files = source.files_by_stem
    times = _find_times(source.annotations.parent) if any(each.video in files for each in elements) else None
    for element in elements:
        if len(set(element.labels)) > 1:
            numbers = ", ".join(map(str, element.labels))
            source.left_out.append(
                (element.name, f"the list has this element several times, with the labels {numbers}")
            )
            continue
        label = _name_of(element, names, source)
        if element.name in files or element.video not in files:
            if path := source.find_video(element.name):
                yield VideoRecord(path, label, group=element.video)
        elif (segment := _segment(element, times, source)) and (path := source.find_video(element.video)):
            yield VideoRecord(path, label, *segment, group=element.video)


def _read_elements(path: Path) -> list[_Element]:
    """Return the gymnastic elements in a list of FineGym, in order; lines with the same id form one element."""
    elements: dict[str, _Element] = {}
    for number, line in enumerate(read_text(path, _NEEDED).splitlines(), start=1):
        if not line.strip():
            continue
        found = _ELEMENT.fullmatch(line.strip())
        if found is None:
            raise FarfieldError(
                f"{path}, line {number}: {line!r} must be `<YouTube id>_E_<start>_<end>_A_<start>_<end> <label>`, "
                f"where the label is a number. {_NEEDED}"
            )
        name, video, event, action, label = found.groups()
        elements.setdefault(name, _Element(name, video, event, action, number, [])).labels.append(int(label))
    return list(elements.values())


def _read_categories(path: Path, annotations: Path) -> dict[int, str]:
    """Return the name of each class by its number. Names that several classes share get the class's Glabel as a suffix.

    Args:
        path: file of class names, such as gym99_categories.txt.
        annotations: path of the list of elements. If its file name and that of `path` both name a set (gym99 or
            gym288), the sets must be the same.

    Raises:
        FarfieldError: for a missing file, a malformed line, a repeated number, or files of different sets.
    """
    sets = {found[0] for name in (path.name, annotations.name) if (found := re.search(r"gym\d+", name.lower()))}
    if len(sets) > 1:
        raise FarfieldError(
            f"{path} and {annotations} do not match: one is of Gym99, the other of Gym288. {_NEEDED_LABELS}"
        )
    categories: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(read_text(path, _NEEDED_LABELS).splitlines(), start=1):
        if not line.strip():
            continue
        category = _CATEGORY.fullmatch(line.strip())
        if category is None:
            raise FarfieldError(
                f"{path}, line {number}: {line!r} must be `Clabel: <number>; set: <number>; Glabel: <number>; <name>`. "
                f"{_NEEDED_LABELS}"
            )
        if int(category[1]) in categories:
            raise FarfieldError(f"{path}, line {number}: Clabel {category[1]} occurs twice. {_NEEDED_LABELS}")
        categories[int(category[1])] = (category[4], category[3])
    counts = Counter(name for name, _ in categories.values())
    return {
        clabel: name if counts[name] == 1 else f"{name} [Glabel {glabel}]"
        for clabel, (name, glabel) in categories.items()
    }


def _name_of(element: _Element, names: Mapping[int, str] | None, source: AnnotationSource) -> str:
    label = element.labels[0]
    if names is None:
        return str(label)
    if label not in names:
        raise FarfieldError(
            f"{source.annotations}, line {element.line}: the label is {label}, but {source.labels} has no such Clabel "
            f"among its {len(names)} classes. {_NEEDED_LABELS}"
        )
    return names[label]


def _find_times(folder: Path) -> dict[str, Any] | None:
    """Read finegym_annotation_info*.json in a folder; return the exact times by YouTube id, or None without a file."""
    found = sorted(folder.glob(_TIMES))
    if len(found) > 1:
        raise FarfieldError(
            f"{folder} holds several files of exact times: {', '.join(each.name for each in found)}. Keep only the "
            "file of the same version as the list."
        )
    times = read_json(found[0], _NEEDED_TIMES) if found else None
    if times is not None and not isinstance(times, dict):
        raise FarfieldError(f"{found[0]} must be a JSON object with an entry for each YouTube id. {_NEEDED_TIMES}")
    return times


def _segment(
    element: _Element, times: Mapping[str, Any] | None, source: AnnotationSource
) -> tuple[float, float] | None:
    """Return start and end of an element in its whole video, in seconds.

    If the times are unknown or invalid, the element is added to `source.left_out`, and the result is None.

    Args:
        element: element to find.
        times: content of finegym_annotation_info*.json; None if there is no such file.
        source: videos, annotations and options of the collection.
    """
    if times is None:
        reason = "its times are unknown; put finegym_annotation_info_v1.1.json into the folder of the list"
        source.left_out.append((element.name, reason))
        return None
    try:
        event = times[element.video][element.event]
        offset = float(event["timestamps"][0][0])
        stages = event["segments"][element.action]["timestamps"]
        start, end = offset + float(stages[0][0]), offset + float(stages[-1][1])
    except (KeyError, IndexError, TypeError, ValueError):
        source.left_out.append((element.name, f"{_TIMES} in the folder of the list has no times of this element"))
        return None
    if not 0 <= start < end:
        source.left_out.append((element.name, f"its segment [{start:g}, {end:g}) is empty"))
        return None
    return round(start, 3), round(end, 3)
