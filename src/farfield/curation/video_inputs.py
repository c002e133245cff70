"""Resolve predict's inputs to videos and segments."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from farfield.curation.folder_scan import Reason, SkippedFiles, scan_folder
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.video.frame_folder import looks_like_frames


def find_records(
    inputs: Sequence[str],
    *,
    listed: Iterable[str] | None = None,
    out: str | Path | None = None,
    skipped: SkippedFiles | None = None,
    frame_folders: bool = False,
) -> list[VideoRecord]:
    """Resolve files, folders, glob patterns, manifests and "-" to a list of videos, in order and without duplicates.

    Folders are searched recursively for files with a video suffix, and links are followed. `farfield data index`
    searches in the same way. With `frame_folders`, each folder of numbered pictures counts as a video, both as an input
    and inside a folder.
    Three kinds of input stay in the list although they cannot be read: a file that does not exist, a pattern without a
    match and, without `frame_folders`, a folder of pictures. `predict` reports each of these by name, and continues
    with the others.

    Args:
        inputs: files, folders, glob patterns, manifests (.csv), or "-" to read further inputs from standard input, one
            per line.
        listed: lines to read for "-". If None, standard input is read.
        out: output folder. Files inside it are ignored when folders and patterns are searched. If None, no
            file is ignored.
        skipped: record of the files and subfolders that are skipped when folders are searched; the search adds to it.
            None if the caller does not need this record.
        frame_folders: list folders of numbered pictures as videos.

    Returns:
        The videos, without labels; their paths are relative to the working directory or absolute. If a video comes from
        a manifest, it has the segment of the manifest's row and, for a folder of pictures, the row's frame rate.

    Raises:
        FarfieldError: for a folder without videos, or a manifest that cannot be read.
    """
    found: dict[VideoRecord, None] = {}
    skipped = SkippedFiles() if skipped is None else skipped
    for given in inputs:
        if given == "-":
            lines = (line.strip() for line in (sys.stdin if listed is None else listed))
            further = [line for line in lines if line and line != "-"]
            records = find_records(further, out=out, skipped=skipped, frame_folders=frame_folders)
        elif Path(given).suffix.lower() == ".csv" and not Path(given).is_dir():
            records = _rows(given)
        else:
            excluded = None if out is None else Path(out).resolve()
            records = [VideoRecord(path, "") for path in _files(given, excluded, skipped, frame_folders)]
        found |= dict.fromkeys(records)
    return list(found)


def find_videos(inputs: Sequence[str], **options: Any) -> list[str]:
    """Resolve inputs to the paths of videos, without duplicates. Options and errors: see `find_records`."""
    return list(dict.fromkeys(record.path for record in find_records(inputs, **options)))


def _rows(manifest: str) -> list[VideoRecord]:
    rows = read_manifest(manifest, needs_labels=False)
    paths = [rows.path(i) for i in range(len(rows))]
    return [
        VideoRecord(
            str(path), "", row.start_seconds, row.end_seconds, fps=row.fps if row.fps and path.is_dir() else None
        )
        for path, row in zip(paths, rows, strict=True)
    ]


def _files(given: str, out: Path | None, skipped: SkippedFiles, frame_folders: bool) -> Iterable[str]:
    path = Path(given)

    def is_input(file: Path) -> bool:
        return file.is_file() and out not in file.resolve().parents

    if path.is_dir():
        skipped_here = SkippedFiles(skipped.keep_names)
        found = scan_folder(path, skipped_here, exclude=out, frame_folders=frame_folders)
        files = [str(file) for file in found]
        if not files and skipped_here.counts == {Reason.NEEDS_FPS: 1} and _is_frame_folder(path):
            return [given]
        if not files:
            raise FarfieldError(f"the folder {given} holds no videos. {skipped_here.sentence()}".strip())
        skipped.update(skipped_here)
        return files
    if not path.exists() and glob.has_magic(given):
        return sorted(f for f in glob.glob(given, recursive=True) if is_input(Path(f))) or [given]
    return [given]


def _is_frame_folder(path: Path) -> bool:
    return looks_like_frames(path, (each.name for each in path.iterdir()))
