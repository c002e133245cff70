"""Read CSV files without a header, one line `id;label` per video, as published by Twenty Billion Neurons.

Jester and Something-Something use this format. Lists of test videos have lines `id`, without a label.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.text_files import read_text
from farfield.errors import FarfieldError


def read_id_label_csv(path: Path, needed: str) -> Iterator[tuple[str, str]]:
    """Yield (id, label) for each line; the label is "" for a line that has only an id.

    Args:
        path: file to read.
        needed: last sentence of the error message for a missing file, such as "Give the published list."

    Raises:
        FarfieldError: for a missing file, or a line that is neither `id;label` nor `id`.
    """
    reader = csv.reader(io.StringIO(read_text(path, needed), newline=""), delimiter=";")
    for row in reader:
        values = [value.strip() for value in row]
        if not any(values):
            continue
        if len(values) > 2 or not values[0].isdecimal():
            raise FarfieldError(
                f"{path}, line {reader.line_num}: {';'.join(row)!r} must begin with a whole number, the id, and may "
                "end in a label after a semicolon. Give the published list, which has no header."
            )
        yield values[0], "".join(values[1:])


def find_frames_or_video(source: AnnotationSource, video_id: str, *, suffix: str = "") -> str | None:
    """Find a video by its id: a folder of frames or a video file.

    A folder `<id>` directly below the root is used first. If there is none, `AnnotationSource.find_video` looks for a
    video named `<id>`, with any video suffix, anywhere below the root. If `source.fps` is given, the search includes
    folders of frames named `<id>`.

    Args:
        source: videos, annotations and options of the collection.
        video_id: id of the video.
        suffix: suffix of the returned path if the video is missing; "" for folders of frames.

    Returns:
        Path relative to the root. If `find_video` finds several videos of this name, the name is added to
        `source.left_out`, and the result is None.
    """
    return video_id if (source.root / video_id).is_dir() else source.find_video(video_id, suffix=suffix)
