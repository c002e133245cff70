"""The option `fps` of commands that read collections: the frame rate of folders of pictures that have none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from farfield.data.manifest import VideoRecord
from farfield.errors import FarfieldError


def check_fps(fps: float | None) -> None:
    """Check that a frame rate is a positive number, or None.

    Raises:
        FarfieldError: if it is not.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise FarfieldError(f"fps is {fps:g}; it must be a positive number of frames per second.")


def fill_fps(records: Iterable[VideoRecord], fps: float | None) -> list[VideoRecord]:
    """Give records without a frame rate this one. Only folders of pictures are read at the rate of their record."""
    return [replace(record, fps=record.fps or fps) for record in records]
