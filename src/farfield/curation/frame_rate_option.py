"""Check and apply the option `fps`: the frame rate of folders of numbered pictures, unless the manifest gives one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError


def check_fps(fps: float | None) -> None:
    """Check that a frame rate is a positive number, or None.

    Raises:
        FarfieldError: if `fps` is zero, negative or not finite.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise FarfieldError(f"fps is {fps:g}; it must be a positive number of frames per second.")


def fill_fps(records: Iterable[VideoRecord], fps: float | None) -> list[VideoRecord]:
    """Return the records; those without a frame rate get `fps`. Only folders of numbered pictures need a frame rate."""
    return [replace(record, fps=record.fps or fps) for record in records]
