from __future__ import annotations

from pathlib import Path

import pytest

from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.folders import classes_of_folder
from farfield.errors import FarfieldError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_classes_are_neither_hidden_nor_empty(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "walk/notes.txt", ".Trash-1000/files/b.mp4", "c.mp4")
    (tmp_path / "jump").mkdir()
    (tmp_path / "running").symlink_to("run")
    skipped = SkippedFiles(keep_names=True)
    assert [(each.path, each.label) for each in classes_of_folder(tmp_path, skipped)] == [("run/a.mp4", "run")]
    assert {(Path(path).name, reason.name) for path, reason in skipped.names} == {
        (".Trash-1000", "HIDDEN"),
        ("notes.txt", "OTHER_ENDING"),
        ("c.mp4", "OUTSIDE_CLASSES"),
        ("walk", "EMPTY_CLASS"),
        ("jump", "EMPTY_CLASS"),
        ("running", "SCANNED_ALREADY"),
    }


def test_splits_are_recognised_beside_hidden_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4", "val/run/b.mp4", ".cache/c.mp4")
    with pytest.raises(FarfieldError, match=r"are splits, not classes: train, val\. Give each"):
        classes_of_folder(tmp_path, SkippedFiles())


def test_a_separator_of_labels_in_the_name_of_a_class_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "open|close/a.mp4")
    with pytest.raises(FarfieldError, match=r"open\|close contains '\|', which separates labels"):
        classes_of_folder(tmp_path, SkippedFiles())
