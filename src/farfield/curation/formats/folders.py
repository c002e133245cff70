"""Read folder trees `root/label/.../video`: the folders directly below the root are the classes.

A folder of numbered pictures counts as a video if the option `fps` gives its frame rate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from farfield.curation.folder_scan import Reason, SkippedFiles, hidden_reason, scan_folder
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
"""Usual names of split folders, in lower case. A split folder contains class folders."""


def read_folders(source: AnnotationSource) -> Iterator[VideoRecord]:
    """List the videos of a folder tree, see `classes_of_folder`."""
    yield from classes_of_folder(source.root, source.skipped, frame_folders=source.fps is not None)


def videos_of_folder(
    root: Path, skipped: SkippedFiles, *, exclude: Path | None = None, frame_folders: bool = False
) -> list[VideoRecord]:
    """List all videos under a folder, without labels. The paths are relative to the folder.

    For the arguments, see `classes_of_folder`.
    """
    files = scan_folder(root, skipped, exclude=exclude, frame_folders=frame_folders)
    return [VideoRecord(file.relative_to(root).as_posix(), "") for file in files]


def check_class_folders(names: Collection[str], root: Path) -> None:
    """Check the names of the class folders in a folder or archive.

    Args:
        names: names of the class folders.
        root: folder or archive that holds them, for messages.

    Raises:
        FarfieldError: if a name contains "|"; or if all folders, or at least two of them, are named like splits, such
            as train and test.
    """
    splits = sorted(name for name in names if name.casefold() in SPLITS)
    if splits and (len(splits) > 1 or len(splits) == len(names)):
        raise FarfieldError(
            f"folders in {root} are splits, not classes: {', '.join(splits)}. Give each split folder separately."
        )
    for name in sorted(names):
        if "|" in name:
            raise FarfieldError(
                f"the name of the class folder {root / name} contains '|', which separates labels in a manifest. "
                "Rename the folder."
            )


def classes_of_folder(
    root: Path, skipped: SkippedFiles, *, exclude: Path | None = None, frame_folders: bool = False
) -> list[VideoRecord]:
    """List the videos root/label/.../video, each with its class folder as the label.

    Args:
        root: folder that holds the class folders.
        skipped: object to which skipped files, videos outside the class folders and empty class folders are added.
        exclude: folder inside `root` that is not part of the collection; None excludes nothing.
        frame_folders: list folders of numbered pictures, too; see `scan_folder`.

    Raises:
        FarfieldError: if `root` cannot be read, or for names that `check_class_folders` refuses.
    """
    excluded = None if exclude is None else exclude.resolve()
    try:
        entries = sorted(entry for entry in root.iterdir() if entry.is_dir() and not hidden_reason(entry.name))
    except OSError as error:
        raise FarfieldError(f"the folder {root} cannot be read: {error.strerror}.") from error
    folders = [entry for entry in entries if entry.resolve() != excluded]
    records = []
    for record in videos_of_folder(root, skipped, exclude=exclude, frame_folders=frame_folders):
        parts = PurePosixPath(record.path).parts
        if len(parts) > 1:
            records.append(replace(record, label=parts[0]))
        else:
            skipped.add(Reason.OUTSIDE_CLASSES, root / record.path)
    found, resolved_root = {record.label for record in records}, root.resolve()
    check_class_folders(found or {folder.name for folder in folders}, root)
    for folder in folders:
        target = folder.resolve()
        inside = target.is_relative_to(resolved_root) or resolved_root.is_relative_to(target)
        if folder.name not in found and not (folder.is_symlink() and inside):  # the scan records such links
            skipped.add(Reason.EMPTY_CLASS, folder)
    return records
