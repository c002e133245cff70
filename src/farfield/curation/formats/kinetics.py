"""Read Kinetics (400, 600, 700 and 700-2020): a CSV of YouTube ids, times and labels; videos `<id>_<start>_<end>`.

The CSV has the header `label,youtube_id,time_start,time_end,split`, in Kinetics-400 also `is_cc`. `split` is train, val
or test; DeepMind's Kinetics-700 has validate instead of val. In activitynet/ActivityNet, commit 82304fa, val has 19,906
rows in Kinetics-400 and 30,000 in Kinetics-600, and kinetics-600_test.csv has no column `label`. Kinetics-400 quotes
each label that contains a space. A video may have several clips with different starts. In file names, times have six
digits.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from farfield.curation.folder_scan import Reason, scan_folder
from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.text_files import read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

CLIP_COLUMNS = {"youtube_id", "time_start"}
"""Columns by which a file is recognised as Kinetics' CSV."""

COLUMNS = CLIP_COLUMNS | {"label"}
"""Columns of a CSV with labels; some test lists lack `label`."""

VALIDATION = {"val", "validate", "validation"}
"""Names of the validation part in the column `split`."""

ClipKey = tuple[str, int]
"""Identifies a clip: YouTube id, and start in seconds."""


def read_kinetics(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read Kinetics' CSV and find its videos anywhere under `root`.

    Records have no start and end, since each video file contains only its clip. A clip that is annotated but not on
    disk gets a record with the usual file name `<id>_<start>_<end>.mp4`. Clips without a label are left out.

    Raises:
        FarfieldError: for a missing file or column, a start that is not a number, or a subset without clips.
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
    clips = list(_clips(source.annotations, CLIP_COLUMNS))
    for (youtube_id, start), row in _of_subset(source, clips):
        name = by_clip.get((youtube_id, start), f"{youtube_id}_{start:06d}_{start + 10:06d}.mp4")
        label = row.get("label") or ""
        if label.strip():
            yield VideoRecord(name, label, group=youtube_id)
        else:
            source.left_out.append((name, NO_LABEL))
    for clip in by_clip.keys() - {clip for clip, _ in clips}:
        skipped.add(Reason.NOT_ANNOTATED, root / by_clip[clip])


def _of_subset(
    source: AnnotationSource, clips: list[tuple[ClipKey, dict[str, str]]]
) -> list[tuple[ClipKey, dict[str, str]]]:
    """Return the clips whose column `split` equals `source.subset`; all clips if `source.subset` is None."""
    if source.subset is None:
        return clips
    found = [(clip, row) for clip, row in clips if _subset_name(row.get("split")) == _subset_name(source.subset)]
    if not found:
        known = sorted({row.get("split") or "" for _, row in clips} - {""})
        values = f"has the values {', '.join(known)}" if known else "is missing or empty"
        other = "Give one of these values as subset, or leave subset out." if known else "Leave subset out."
        raise FarfieldError(
            f"{source.annotations} has no clips of the subset {source.subset!r}: the column 'split' {values}. {other}"
        )
    return found


def _subset_name(name: str | None) -> str:
    """Normalise a value of the column `split`: lower case; "validation" for val and validate; "" for None."""
    plain = (name or "").strip().casefold()
    return "validation" if plain in VALIDATION else plain


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
    for clip, row in _clips(path, COLUMNS):
        yield clip, row["label"]


def _clips(path: Path, needed: set[str]) -> Iterator[tuple[ClipKey, dict[str, str]]]:
    """Yield ((YouTube id, start in seconds), row) for each row of Kinetics' CSV, which must have the needed columns."""
    content = read_text(path, "Give Kinetics' CSV, for example train.csv or validate.csv.")
    reader = csv.DictReader(io.StringIO(content, newline=""))
    missing = needed - set(reader.fieldnames or ())
    if missing:
        columns = "column" if len(missing) == 1 else "columns"
        raise FarfieldError(
            f"{path} lacks the {columns} {', '.join(sorted(missing))}. Give Kinetics' CSV, for example train.csv."
        )
    for row in reader:
        try:
            start = int(float(row["time_start"]))
        except (TypeError, ValueError, OverflowError):
            raise FarfieldError(
                f"{path}, line {reader.line_num}: time_start is {row['time_start']!r}; it must be a number of seconds."
            ) from None
        yield (row["youtube_id"], start), row


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read Kinetics' CSV; return its column names and its rows. For a CSV of another format, return two empty lists.

    Raises:
        FarfieldError: for a missing file, a file that is not CSV, a test list of Kinetics (it has no labels), a row
            without a label, or a row with more or fewer values than the header.
    """
    if not path.is_file():
        raise FarfieldError(f"there is no file {path}. Give a manifest, or Kinetics' CSV.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(reader.fieldnames or ()) >= CLIP_COLUMNS:
                return [], []
            if "label" not in (reader.fieldnames or ()):
                raise FarfieldError(
                    f"{path} has no column 'label': it is one of Kinetics' test lists. Give a list with "
                    "labels, for example train.csv."
                )
            rows = list(reader)
            for line, row in enumerate(rows, start=2):
                if None in row or None in row.values():
                    raise FarfieldError(
                        f"{path}, line {line}: the row has more or fewer values than the header. Correct the row."
                    )
                if not row["label"].strip():
                    raise FarfieldError(f"{path}, line {line}: the clip has no label. Leave the row out.")
            return list(reader.fieldnames or ()), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise FarfieldError(f"{path} is not a CSV file: {error}. Give a manifest, or Kinetics' CSV.") from error
