"""Turn the command-line options of a timeline into `TimelineOptions`."""

from __future__ import annotations

from typing import Any

from farfield.errors import FarfieldError
from farfield.timelines.options import TimelineOptions


def timeline_options(timeline: bool, **given: Any) -> TimelineOptions | None:
    """Return `TimelineOptions` with the given values, or None without --timeline.

    Raises:
        FarfieldError: for values out of range, or for options that are set without --timeline.
    """
    if timeline:
        return TimelineOptions(**given)
    surplus = [name for name, value in given.items() if value != getattr(TimelineOptions, name)]
    if surplus:
        raise FarfieldError(f"--{surplus[0]} only applies with --timeline. Add --timeline, or remove --{surplus[0]}.")
    return None
