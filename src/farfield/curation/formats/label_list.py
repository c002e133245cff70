"""List files with one line `path label` per video, where the label is a number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from farfield.curation.class_names import read_class_names
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.text_files import read_text
from farfield.data.manifest import VideoRecord
from farfield.errors import FarfieldError


def read_label_list(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a list file with one line `path label` or `path,label` per video.

    Absolute paths inside the root are made relative to it. Without a file of class names, labels are the numbers.

    Raises:
        FarfieldError: for a missing file, a malformed line, or a number without a class name.
    """
    root, annotations = source.root, source.annotations
    class_names = None if source.labels is None else read_class_names(source.labels)
    content = read_text(annotations, "Give a list with one line `path label` per video.")
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        parts = re.fullmatch(r"\s*(.+?)\s*[\s,]\s*(\d+)\s*", text)  # a path may contain spaces
        if parts is None:
            raise FarfieldError(
                f"{annotations}, line {number}: {text!r} must be `path label`, where the label is a number."
            )
        path, label = parts[1], int(parts[2])
        if class_names is not None and label >= len(class_names):
            raise FarfieldError(
                f"{annotations}, line {number}: the label is {label}, but there are class names only for "
                f"{len(class_names)} labels, counted from 0. Add the missing class names."
            )
        inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path(path)
        yield VideoRecord(inside.as_posix(), str(label) if class_names is None else class_names[label])
