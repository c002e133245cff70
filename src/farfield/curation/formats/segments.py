"""Parse and clip the times of annotated segments."""

from __future__ import annotations

import math


def parse_seconds(value: object) -> float | None:
    """Convert seconds, given as a number or as text, to a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def parse_segment(values: object) -> tuple[float, float] | None:
    """Return start and end from a list of two times in seconds, see `parse_seconds`; None for anything else."""
    if not isinstance(values, list) or len(values) != 2:
        return None
    start, end = map(parse_seconds, values)
    return None if start is None or end is None else (start, end)


def clip_segment(start: float, end: float, duration: float | None) -> tuple[float, float] | str:
    """Clip a segment to [0, duration).

    Args:
        start: start in seconds.
        end: end in seconds.
        duration: length of the video in seconds; None if it is not known.

    Returns:
        (start, end) of the clipped segment; or the reason, as text, if nothing remains of it.
    """
    if end <= start:
        return "is empty"
    first, last = max(start, 0.0), end if duration is None else min(end, duration)
    if first < last:
        return first, last
    return "lies outside the video" if duration is None else f"lies outside the video of {duration:g} s"
