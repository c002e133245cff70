"""MMAction2's video lists: one line `path label` per video."""

from __future__ import annotations

from collections.abc import Iterator

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.label_list import read_label_list
from farfield.data.manifest import VideoRecord


def read_mmaction2(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read one of MMAction2's video lists, see `read_label_list`."""
    yield from read_label_list(source)
