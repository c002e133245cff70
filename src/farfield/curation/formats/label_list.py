"""Lists with a line `path label` for each video, the label a number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from farfield.curation.text_files import read_text
from farfield.data.manifest import VideoRecord
from farfield.errors import FarfieldError


def read_label_list(root: Path, annotations: Path, class_names: list[str] | None) -> Iterator[VideoRecord]:
    """Read lines of `path label` or `path,label`.

    Args:
        root: folder of the videos; absolute paths below it become relative to it.
        annotations: list file.
        class_names: names to replace the numbers by; None keeps the numbers as labels.

    Raises:
        FarfieldError: for a missing file, a malformed line, or a number without a class name.
    """
    content = read_text(annotations, "Give a list with a line `path label` for each video.")
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        parts = re.fullmatch(r"\s*(.+?)\s*[\s,]\s*(\d+)\s*", text)  # a path may contain spaces
        if parts is None:
            raise FarfieldError(f"{annotations}, line {number}: {text!r} is not `path label` with a number as label.")
        path, label = parts[1], int(parts[2])
        if class_names is not None and label >= len(class_names):
            raise FarfieldError(
                f"{annotations}, line {number}: label {label}, but there are {len(class_names)} class names."
            )
        inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path(path)
        yield VideoRecord(inside.as_posix(), str(label) if class_names is None else class_names[label])
