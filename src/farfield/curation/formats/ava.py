"""Recognise AVA's annotations and refuse them with an error: they label persons' boxes, not videos or segments.

Published at https://research.google.com/ava as CSV files without a header, for example `ava_train_v2.2.csv`, with
`video_id, middle_frame_timestamp, x1, y1, x2, y2, action_id, person_id`. Coordinates are fractions of the frame. A row
gives one action of one person at one second of a video; several rows may give the same second.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NoReturn

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

_LINES = 20
"""Number of lines, from the start of a file, that are searched for a box.

One line is not enough: AVA-Kinetics also has rows without a box.
"""


def read_ava(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Raise the error that explains why AVA is not supported, see `refuse_ava`."""
    refuse_ava()


def refuse_ava() -> NoReturn:
    """Raise the error that explains why AVA is not supported.

    Raises:
        FarfieldError: always.
    """
    raise _refusal("AVA's annotations are")


def refuse_boxes(path: Path) -> None:
    """Raise an error if a file has AVA's rows. Readers of other CSV formats might take them for paths and labels.

    Args:
        path: annotations of any format. A folder or a missing file is not checked.

    Raises:
        FarfieldError: for a file with AVA's rows.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        if any(map(_is_box, islice(file, _LINES))):
            raise _refusal(f"{path} has AVA's rows,")


def _is_box(line: str) -> bool:
    """Return whether a CSV line is a row of AVA with a box.

    Such a row has 7 or 8 values: the second is a time, and the next four are between 0 and 1.
    """
    values = line.strip().split(",")
    try:
        time, *corners = map(float, values[1:6])
    except ValueError:
        return False
    return len(values) in (7, 8) and time >= 0 and len(corners) == 4 and all(0 <= corner <= 1 for corner in corners)


def _refusal(subject: str) -> FarfieldError:
    return FarfieldError(
        f"{subject} boxes of persons at single times (video_id, middle_frame_timestamp, x1, y1, x2, y2, action_id, "
        "person_id), for spatio-temporal detection. farfield classifies videos and segments. Give annotations of "
        "whole videos or of segments."
    )
