"""Read Diving48: JSON lists of trimmed videos, each with the number of its class.

Published at http://www.svcl.ucsd.edu/projects/resound/dataset.html as `Diving48_train.json` and `Diving48_test.json`
(version 1), `Diving48_V2_train.json` and `Diving48_V2_test.json` (version 2, with corrected labels). Each file is a
list of objects with `vid_name`, `label`, `start_frame` and `end_frame`. Videos are `rgb/<vid_name>.mp4`, where
`vid_name` is `<YouTube id>_<number>`. Each video is one dive and is used whole, as in MMAction2: `start_frame` is 0,
and `end_frame` the number of frames. `label` counts from 0. `Diving48_vocab.json` lists the 48 classes in this order,
each as four strings for take-off, somersaults, twists and position, such as `["Back", "15som", "05Twis", "FREE"]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.json_files import read_json
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

_NEEDED = "Give a list of Diving48, for example Diving48_V2_train.json."
_NEEDED_LABELS = "Give Diving48_vocab.json."


def read_diving48(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a list of Diving48; yield a row for each video.

    `source.labels` is the file Diving48_vocab.json; without it, labels are class numbers. The row's `group` is the
    YouTube id of the video from which the file was cut.

    Raises:
        FarfieldError: for a missing file, a malformed entry, or a number without a class name.
    """
    path = source.annotations
    class_names = None if source.labels is None else _read_vocabulary(source.labels)
    entries = read_json(path, _NEEDED)
    if not isinstance(entries, list):
        raise FarfieldError(f"{path} must be a JSON list of videos. {_NEEDED}")
    for number, entry in enumerate(entries, start=1):
        name = entry.get("vid_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise FarfieldError(
                f"{path}, entry {number}: vid_name is {name!r}; it must be the name of a video. {_NEEDED}"
            )
        if entry.get("label") is None:
            source.left_out.append((name, NO_LABEL))
        elif start := entry.get("start_frame", 0):
            source.left_out.append(
                (name, f"start_frame is {start!r}, but the files of Diving48 are whole dives, from frame 0")
            )
        elif video := source.find_video(name):
            label = _label_of(entry["label"], class_names, f"{path}, entry {number} ({name})")
            source_video = re.fullmatch(r"(.+)_\d+", name)
            yield VideoRecord(video, label, group=source_video[1] if source_video else None)


def _label_of(label: object, class_names: list[str] | None, where: str) -> str:
    if not isinstance(label, int) or isinstance(label, bool) or label < 0:
        raise FarfieldError(f"{where}: the label is {label!r}; it must be a whole number, counted from 0. {_NEEDED}")
    if class_names is None:
        return str(label)
    if label >= len(class_names):
        raise FarfieldError(
            f"{where}: the label is {label}; it must be below the number of classes in the vocabulary, "
            f"{len(class_names)}. {_NEEDED_LABELS}"
        )
    return class_names[label]


def _read_vocabulary(path: Path) -> list[str]:
    """Return the class names in Diving48_vocab.json: the strings of each entry, joined by spaces."""
    entries = read_json(path, _NEEDED_LABELS)
    if not isinstance(entries, list) or not all(
        isinstance(words, list) and words and all(isinstance(word, str) for word in words) for words in entries
    ):
        raise FarfieldError(f"{path} must be a JSON list with a list of words for each class. {_NEEDED_LABELS}")
    names = [" ".join(words) for words in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FarfieldError(
            f"{path} has a class more than once: {', '.join(twice[:5])}. Equal names would merge classes. "
            f"{_NEEDED_LABELS}"
        )
    return names
