"""Read Something-Something: JSON lists (version 2) or CSV files of lines `id;class` (version 1).

Published at https://www.qualcomm.com/developer/software/something-something-v-2-dataset. Version 2 has `train.json`
(168,913 videos), `validation.json` (24,777) and `test.json` (27,157). In older downloads, these names have the prefix
`something-something-v2-`. Each file is a JSON list of objects with `id`, `label`, `template` and `placeholders`; the
test list has only `id`. `label` is a sentence about the video ("holding a cup"). The class is `template` without square
brackets ("Holding something"). It is one of the 174 keys of `labels.json`, whose values are the numbers of the classes
as strings. `test-answers.csv` has the classes of the test videos in lines `id;class`. Videos are `<id>.webm`.

Version 1 has CSV files of lines `id;class`, a test list with only ids, and a folder of JPEG frames for each id. Its 174
classes are the lines of `something-something-v1-labels.csv`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farfield.curation.class_names import read_class_names
from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.id_label_csv import find_frames_or_video, read_id_label_csv
from farfield.curation.formats.json_files import parse_json
from farfield.curation.text_files import read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest

_NEEDED = "Give a list of Something-Something, for example train.json."
_NEEDED_LABELS = "Give labels.json of Something-Something V2, or something-something-v1-labels.csv."


def read_something_something(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a list of version 1 or 2; yield a row for each video.

    If `source.labels` is given, it must contain each class.

    Raises:
        FarfieldError: for a missing file, a malformed entry, or a class that is not in `source.labels`.
    """
    known = None if source.labels is None else _read_labels(source.labels)
    content = read_text(source.annotations, _NEEDED)
    if content.lstrip().startswith(("[", "{")):
        videos, suffix = _read_json_list(content, source.annotations), ".webm"
    else:
        videos, suffix = read_id_label_csv(source.annotations, _NEEDED), ""
    for video_id, label in videos:
        if not label:
            source.left_out.append((video_id, NO_LABEL))
            continue
        if known is not None and label not in known:
            raise FarfieldError(
                f"{source.annotations}: video {video_id} has the class {label!r}, which {source.labels} lacks. "
                f"{nearest(label, known)} Give the labels of the same version of Something-Something."
            )
        if path := find_frames_or_video(source, video_id, suffix=suffix):
            yield VideoRecord(path, label)


def _read_json_list(content: str, path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, class) for each entry of a JSON list; the class is "" for an entry without a class."""
    entries = parse_json(content, path, _NEEDED)
    if not isinstance(entries, list):
        raise FarfieldError(f"{path} holds a JSON object; it must be a list of videos. {_NEEDED}")
    for number, entry in enumerate(entries, start=1):
        video_id = entry.get("id") if isinstance(entry, dict) else None
        if not (isinstance(video_id, str) and video_id.isdecimal()):
            raise FarfieldError(
                f"{path}, entry {number}: the id is {video_id!r}; it must be a string of digits. {_NEEDED}"
            )
        yield video_id, _class_of(entry, f"{path}, entry {number} (id {video_id})")


def _class_of(entry: dict[str, Any], where: str) -> str:
    """Return the class: the template without square brackets; "" for an entry of a test list.

    Raises:
        FarfieldError: for an entry with a label and without a template.
    """
    template = entry.get("template")
    if template is None and "label" not in entry:
        return ""
    if not isinstance(template, str) or not template.strip():
        raise FarfieldError(
            f"{where}: the template is {template!r}; it must be a string, since it names the class. {_NEEDED}"
        )
    return template.replace("[", "").replace("]", "").strip()


def _read_labels(path: Path) -> list[str]:
    """Read class names: the keys of a JSON object (version 2), or the lines of a text file (version 1)."""
    content = read_text(path, _NEEDED_LABELS)
    if not content.lstrip().startswith(("[", "{")):
        return read_class_names(path)
    labels = parse_json(content, path, _NEEDED_LABELS)
    if not isinstance(labels, dict):
        raise FarfieldError(f"{path} holds a JSON list; it must map class names to numbers. {_NEEDED_LABELS}")
    return list(labels)
