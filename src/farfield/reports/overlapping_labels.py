"""Lanes for drawing overlapping segments, and the text that is shown if no class reaches its threshold."""

from __future__ import annotations

from collections.abc import Iterable

NO_CLASS = "none of the classes"
"""Text that is shown if no class reaches its threshold in a video or at a moment."""


def assign_lanes(spans: Iterable[tuple[float, float, str]]) -> list[int]:
    """Assign the spans to as few lanes as possible, so that spans in the same lane do not overlap.

    A span takes the lane of the previous span with the same label if that lane is free, else the first free lane.

    Args:
        spans: start, end and label of each span, in order of their starts. The intervals are half-open, [start, end).

    Returns:
        The number of each span's lane, from 0.
    """
    ends: list[float] = []  # of the last span in each lane
    previous: dict[str, int] = {}
    lanes = []
    for start, end, label in spans:
        free = [lane for lane, until in enumerate(ends) if until <= start]
        own = previous.get(label)
        lane = own if own in free else next(iter(free), len(ends))
        ends[lane : lane + 1] = [end]
        previous[label] = lane
        lanes.append(lane)
    return lanes
