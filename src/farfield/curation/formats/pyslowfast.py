"""PySlowFast's lists: one line per video, with path and label separated by a space or a comma."""

from __future__ import annotations

from collections.abc import Iterator

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.label_list import read_label_list
from farfield.data.manifest import VideoRecord


def read_pyslowfast(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read one of PySlowFast's lists, see `read_label_list`."""
    yield from read_label_list(source)
