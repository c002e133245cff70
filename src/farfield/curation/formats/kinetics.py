"""Kinetics format: a CSV of YouTube ids, times and labels, and videos named `<id>_<start>_<end>`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from farfield.curation.folder_scan import Reason, scan_folder
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.text_files import read_text
from farfield.data.manifest import VideoRecord
from farfield.errors import FarfieldError

COLUMNS = {"label", "youtube_id", "time_start"}
"""Columns by which a file is recognised as Kinetics' CSV. A manifest has only `label`."""

ClipKey = tuple[str, int]
"""YouTube id and start in seconds."""


def read_kinetics(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read Kinetics' CSV and find its videos anywhere under `root`.

    Records have no start and end, since each video file contains only its clip. A clip that is annotated but not on
    disk gets a record with the usual file name `<id>_<start>_<end>.mp4`.
    """
    root, skipped = source.root, source.skipped
    by_clip: dict[ClipKey, str] = {}
    for file in scan_folder(root, skipped):
        clip = parse_clip_name(file.stem)
        if clip is None:
            skipped.add(Reason.OTHER_NAME, file)
            continue
        if clip in by_clip:  # the later one wins: replacement_for_corrupted_k400 sorts after the parts
            skipped.add(Reason.SAME_CLIP, root / by_clip[clip])
        by_clip[clip] = file.relative_to(root).as_posix()
    annotated = set()
    for (youtube_id, start), label in read_annotations(source.annotations):
        annotated.add((youtube_id, start))
        name = by_clip.get((youtube_id, start), f"{youtube_id}_{start:06d}_{start + 10:06d}.mp4")
        yield VideoRecord(name, label)
    for clip in by_clip.keys() - annotated:
        skipped.add(Reason.NOT_ANNOTATED, root / by_clip[clip])


def parse_clip_name(stem: str) -> ClipKey | None:
    """Return the id and the start from a file stem `<id>_<start>_<end>`; None for any other stem."""
    named = re.fullmatch(r"(.{11})_(\d+)_(\d+)", stem)
    return (named[1], int(named[2])) if named else None


def label_of_clip(stem: str, labels: dict[ClipKey, str]) -> str | None:
    """Return the label of a file stem `<id>_<start>_<end>`; None for any other stem or a clip without a label."""
    clip = parse_clip_name(stem)
    return labels.get(clip) if clip else None


def read_annotations(path: Path) -> Iterator[tuple[ClipKey, str]]:
    """Yield ((YouTube id, start in seconds), label) for each row of Kinetics' CSV.

    Raises:
        FarfieldError: for a missing file, a missing column, or a start that is not a number.
    """
    content = read_text(path, "Give Kinetics' CSV, for example train.csv or validate.csv.")
    reader = csv.DictReader(io.StringIO(content, newline=""))
    missing = COLUMNS - set(reader.fieldnames or ())
    if missing:
        raise FarfieldError(
            f"{path} lacks the columns {sorted(missing)} of Kinetics' CSV. Give Kinetics' CSV, for example train.csv."
        )
    for line, row in enumerate(reader, start=2):
        try:
            start = int(float(row["time_start"]))
        except (TypeError, ValueError):
            raise FarfieldError(
                f"{path}, line {line}: time_start is {row['time_start']!r}; it must be a number of seconds."
            ) from None
        yield (row["youtube_id"], start), row["label"]


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the column names and all rows of Kinetics' CSV; return two empty lists for any other CSV file.

    Raises:
        FarfieldError: for a missing file, a file that is not CSV, or a row with more or fewer values than the header.
    """
    if not path.is_file():
        raise FarfieldError(f"there is no file {path}. Give a manifest, or Kinetics' CSV.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(reader.fieldnames or ()) >= COLUMNS:
                return [], []
            rows = list(reader)
            for line, row in enumerate(rows, start=2):
                if None in row or None in row.values():
                    raise FarfieldError(f"{path}, line {line}: the row has more or fewer values than the header.")
            return list(reader.fieldnames or ()), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise FarfieldError(f"{path} is not a CSV file: {error}") from error
