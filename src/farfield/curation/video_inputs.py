"""Resolve predict's inputs to video paths."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from farfield.curation.folder_scan import SkippedFiles, scan_folder
from farfield.data.manifest import read_manifest
from farfield.errors import FarfieldError


def find_videos(
    inputs: Sequence[str],
    *,
    listed: Iterable[str] | None = None,
    out: str | Path | None = None,
    skipped: SkippedFiles | None = None,
    frame_folders: bool = False,
) -> list[str]:
    """Resolve files, folders, glob patterns, manifests and "-" to a list of videos, in order and without duplicates.

    Folders are searched recursively for files with a video suffix, and links are followed, as by `farfield data index`.
    With `frame_folders`, folders of numbered pictures are videos, too, whether they are given or found.
    A file that does not exist, or a pattern without a match, stays in the list: predict reports it by name and
    continues with the other files.

    Args:
        inputs: files, folders, glob patterns, manifests (.csv; their segments are ignored), or "-" to read further
            inputs from standard input, one per line.
        listed: lines to read for "-"; None reads standard input.
        out: output folder. Files inside it are ignored when folders and patterns are searched. None ignores no file.
        skipped: record to which skipped files are added.
        frame_folders: see `scan_folder`.

    Raises:
        FarfieldError: for a folder without videos, or a manifest that cannot be read.
    """
    found: dict[str, None] = {}
    skipped = SkippedFiles() if skipped is None else skipped
    for given in inputs:
        if given == "-":
            lines = (line.strip() for line in (sys.stdin if listed is None else listed))
            found |= dict.fromkeys(
                find_videos(
                    [line for line in lines if line and line != "-"],
                    out=out,
                    skipped=skipped,
                    frame_folders=frame_folders,
                )
            )
        else:
            excluded = None if out is None else Path(out).resolve()
            found |= dict.fromkeys(_files(given, excluded, skipped, frame_folders))
    return list(found)


def _files(given: str, out: Path | None, skipped: SkippedFiles, frame_folders: bool) -> Iterable[str]:
    path = Path(given)

    def is_input(file: Path) -> bool:
        return file.is_file() and out not in file.resolve().parents

    if path.is_dir():
        skipped_here = SkippedFiles(skipped.keep_names)
        found = scan_folder(path, skipped_here, exclude=out, frame_folders=frame_folders)
        files = [str(file) for file in found]
        if not files:
            raise FarfieldError(f"the folder {given} holds no videos. {skipped_here.sentence()}".strip())
        skipped.update(skipped_here)
        return files
    if path.suffix.lower() == ".csv":
        manifest = read_manifest(given)
        return [str(manifest.path(i)) for i in range(len(manifest))]
    if not path.exists() and glob.has_magic(given):
        return sorted(f for f in glob.glob(given, recursive=True) if is_input(Path(f))) or [given]
    return [given]
