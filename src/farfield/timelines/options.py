"""Options of a timeline: the length and hop of its windows, and what counts as a segment."""

from __future__ import annotations

from dataclasses import dataclass

from farfield.errors import FarfieldError
from farfield.timelines.sliding_windows import check_window_lengths


@dataclass(frozen=True)
class TimelineOptions:
    """Options of a timeline.

    Args:
        hop_seconds: time from the start of one window to the next; None for half a window.
        window_seconds: length of a window; None for the network's own.
        smooth_seconds: duration around each moment over which probabilities are averaged; 0 for no smoothing.
        min_seconds: minimum length of a segment. Shorter segments are merged into a neighbour; those of a multilabel
            network, whose classes are independent, are dropped.
        threshold: minimum probability of a moment's best class. Moments below it belong to no segment. For a multi_head
            network, that of its most probable combination, which is the product of its classes' probabilities. For a
            multilabel network, the threshold of every class. 0 for the thresholds of the network, see
            `timeline_thresholds`; a network that is not multilabel may have none.

    Raises:
        FarfieldError: for values out of range.
    """

    hop_seconds: float | None = None
    window_seconds: float | None = None
    smooth_seconds: float = 0.0
    min_seconds: float = 0.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_window_lengths(None, self.hop_seconds, self.window_seconds)
        for name, given in (("smooth_seconds", self.smooth_seconds), ("min_seconds", self.min_seconds)):
            if not given >= 0:
                raise FarfieldError(f"{name} is {given}; it must be 0 or more.")
        if not 0 <= self.threshold < 1:
            raise FarfieldError(f"threshold is {self.threshold}; it must be a probability, at least 0 and below 1.")
