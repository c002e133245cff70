"""Read Moments in Time, version 1: CSV files with rows `path,label,agreement,disagreement`.

The files trainingSet.csv and validationSet.csv have no header (README of the archive; MMAction2 and other projects read
the first line as data). A path is `class/name.mp4`, and the videos are in the folders training/ and validation/.
`agreement` counts the annotators who confirmed the label, and `disagreement` those who rejected it.
moments_categories.txt, with lines `label,index`, has 339 classes numbered from 0; some names contain a plus sign, as in
"playing+music".

A name is `<source>_<number>`, where the source is the video that the clip was cut from. The source is the `group` in
the manifest.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.video_paths import locate_video
from farfield.curation.text_files import read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest


def read_moments(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a CSV of Moments in Time; yield a row for each video.

    If `source.labels` (moments_categories.txt) is given, it must contain each label.

    Raises:
        FarfieldError: for a missing file, a malformed row, or a label that is not in `source.labels`.
    """
    known = None if source.labels is None else _read_categories(source.labels)
    content = read_text(source.annotations, "Give trainingSet.csv or validationSet.csv.")
    for line, row in _rows(content):
        place = f"{source.annotations}, line {line}"
        if len(row) != 4 or not row[0] or not all(re.fullmatch("[0-9]+", count) for count in row[2:]):
            raise FarfieldError(
                f"{place}: {','.join(row)!r} must be a path, a label and two whole numbers, separated by commas. Give "
                "trainingSet.csv or validationSet.csv of Moments in Time, version 1, which have no header."
            )
        name, label = row[:2]
        if not label:
            source.left_out.append((name, NO_LABEL))
            continue
        if known is not None and label not in known:
            raise FarfieldError(f"{place}: {source.labels} has no class {label!r}. {nearest(label, known)}")
        path = locate_video(source, name, unique_names=False)
        if path is not None:
            yield VideoRecord(path, label, group=source_of(name))


def source_of(path: str) -> str | None:
    """Return the source video of a clip: the clip's file name without suffix and without the final `_<number>`.

    The result is None if the name does not end in `_<number>`.
    """
    parts = re.fullmatch(r"(.+)_\d+", PurePosixPath(path).stem)
    return parts[1] if parts else None


def _read_categories(path: Path) -> set[str]:
    """Read the labels of moments_categories.txt."""
    categories = {}
    for line, row in _rows(read_text(path, "Give moments_categories.txt.")):
        if len(row) != 2 or not row[0] or not re.fullmatch("[0-9]+", row[1]):
            raise FarfieldError(
                f"{path}, line {line}: {','.join(row)!r} must be `label,index`. Give moments_categories.txt."
            )
        categories[row[0]] = int(row[1])
    if sorted(categories.values()) != list(range(len(categories))):
        raise FarfieldError(
            f"the indices in {path} must run from 0 to {len(categories) - 1}, without a gap. Give "
            "moments_categories.txt as published, or leave labels out."
        )
    return set(categories)


def _rows(content: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the stripped values of each row that is not empty."""
    reader = csv.reader(io.StringIO(content, newline=""))
    for row in reader:
        if row:
            yield reader.line_num, [value.strip() for value in row]
