"""Read UCF101's official splits: trainlist01.txt to trainlist03.txt, and testlist01.txt to testlist03.txt.

Published as UCF101TrainTestSplits-RecognitionTask.zip at crcv.ucf.edu. Lines are `Class/v_Class_g08_c01.avi 1`, without
the number in test lists, and end in CRLF. Split 1 has 9,537 training and 3,783 test videos of 101 classes, which
classInd.txt numbers from 1. The clips g08_c01, g08_c02, ... of a class come from one source video. The files of the
class HandstandPushups are named v_HandStandPushups_..., so the class is taken from the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from farfield.curation.class_names import read_class_list
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.video_paths import locate_video
from farfield.curation.text_files import read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest

LINE = re.compile(r"(?P<path>(?P<label>[^/\s]+)/v_[^/\s]+_(?P<group>g\d+)_c\d+\.avi)(?:\s+(?P<number>\d+))?")


def read_ucf101(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a train or test list; yield a row for each video.

    If `source.labels` (classInd.txt) is given, the names and numbers of the classes must be those of this file.

    Raises:
        FarfieldError: for a missing file, a malformed line, or a class whose name or number is not that of
            `source.labels`.
    """
    numbers = None if source.labels is None else _read_class_numbers(source)
    content = read_text(source.annotations, "Give trainlist01.txt, testlist01.txt, or a list of another split.")
    for line, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        place = f"{source.annotations}, line {line}"
        parts = LINE.fullmatch(text.strip())
        if parts is None:
            raise FarfieldError(
                f"{place}: {text.strip()!r} must be `Class/v_Class_g01_c01.avi`, with or without the number of the "
                "class. Give one of UCF101's lists, for example trainlist01.txt."
            )
        if numbers is not None:
            _check_class(place, parts["label"], parts["number"], numbers, source)
        path = locate_video(source, parts["path"])
        if path is not None:
            yield VideoRecord(path, parts["label"], group=f"{parts['label']}_{parts['group']}")


def _read_class_numbers(source: AnnotationSource) -> dict[str, int]:
    """Read the number of each class from classInd.txt."""
    assert source.labels is not None
    classes = read_class_list(source.labels)
    if classes.first is None:
        raise FarfieldError(
            f"{source.labels} has no numbered lines such as `1 ApplyEyeMakeup`. Give UCF101's classInd.txt, or leave "
            "labels out."
        )
    return {name: number for number, name in enumerate(classes.names, start=classes.first)}


def _check_class(place: str, label: str, number: str | None, numbers: dict[str, int], source: AnnotationSource) -> None:
    if label not in numbers:
        raise FarfieldError(f"{place}: {source.labels} has no class {label!r}. {nearest(label, numbers)}")
    if number is not None and int(number) != numbers[label]:
        raise FarfieldError(
            f"{place}: the class number is {number}, but in {source.labels} {label!r} has number {numbers[label]}. "
            "Give a list and a classInd.txt that belong together."
        )
