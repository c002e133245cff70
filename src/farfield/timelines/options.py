"""Options of a timeline: the length and hop of its windows, and what counts as a segment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from farfield.errors import FarfieldError, nearest
from farfield.plain_types import make_fields_plain
from farfield.timelines.cells import WindowsAggregation
from farfield.timelines.window_lengths import check_window_lengths

Overlaps = Literal["none", "soft_nms", "merge"]

CHOICES = {"overlaps": get_args(Overlaps), "windows_aggregation": get_args(WindowsAggregation)}


@dataclass(frozen=True)
class TimelineOptions:
    """Options of a timeline. docs/guides/untrimmed_segments.md explains their use.

    Args:
        hop_seconds: time from the start of one window to the next; None for half a window. Gaps and segments cannot be
            much shorter than a hop.
        window_seconds: length of a window; None for the clip length of the network.
        windows_aggregation: how the probabilities at a moment are computed from the windows that overlap it. "mean"
            averages them. "nearest" takes the window whose middle is nearest, which gives sharper starts and ends of
            actions. Use "nearest" for networks trained with `data.untrimmed`: they predict the fraction of the window
            in which each class happens.
        smooth_seconds: duration around each moment over which probabilities are averaged; 0 for no smoothing.
        min_seconds: minimum length of a segment: one number for all labels, or a number for each label. A label without
            a number has no minimum. In a multilabel network, shorter segments are dropped. In other networks, they are
            merged into a segment that adjoins them without a gap, or dropped if there is none.
        threshold: minimum probability of a segment's class. In a multilabel network, it applies to each class by
            itself. In a single-label network, it applies to the most probable class of each moment. In a multi-head
            network, it applies to the most probable combination of classes, whose probability is the product over the
            heads. In single-label and multi-head networks, moments below the threshold belong to no segment, unless
            `hysteresis` or `max_gap_seconds` adds them to one. With 0, a multilabel network uses the thresholds stored
            in it: those chosen on timelines or, if there are none, those chosen on clips; a class without a threshold
            uses 0.5. With 0, a single-label network uses its stored thresholds that were chosen on timelines, and 0.5
            for a class without one; if none were chosen on timelines, no threshold applies. In a multi-head network, 0
            means no threshold.
        hysteresis: threshold at which a segment ends, as a share of the threshold at which it starts, above 0 and at
            most 1. A segment starts when the class reaches its threshold, and lasts while the class stays at or above
            this share of its threshold. Unless the network is multilabel, the class must also remain the most probable
            class. With 1, a segment starts and ends at the same threshold.
        max_gap_seconds: two segments of a class are joined if the gap between them is at most this long; one number, or
            a number for each label as for `min_seconds`. Unless the network is multilabel, a gap that contains a
            segment of another class is not closed. Gaps are closed before short segments are merged or dropped.
        overlaps: "none" finds the segments of a class at its threshold only; segments of a class then do not overlap.
            "soft_nms" and "merge" need a multilabel network. They find candidate segments at several probability
            levels: 1/n, 2/n, ..., n/n of the threshold, where n is `num_levels`. The score of a candidate is its mean
            probability minus the mean probability just before and after it. "soft_nms" keeps all candidates, and lowers
            a candidate's score if it overlaps a candidate with a higher score; "merge" averages overlapping candidates.
        num_levels: number of levels at which "soft_nms" and "merge" find candidates, from 1 to 100.
        soft_nms_sigma: width of the Gaussian by which "soft_nms" lowers scores. A smaller width lowers them more.
        min_score: minimum score of a segment, from 0 to 1. Segments below it are dropped.

    Raises:
        FarfieldError: for a value out of range, or if `num_levels` or `soft_nms_sigma` differs from its default
            although the chosen `overlaps` does not use it.
    """

    hop_seconds: float | None = None
    window_seconds: float | None = None
    windows_aggregation: WindowsAggregation = "mean"
    smooth_seconds: float = 0.0
    min_seconds: float | Mapping[str, float] = 0.0
    threshold: float = 0.0
    hysteresis: float = 1.0
    max_gap_seconds: float | Mapping[str, float] = 0.0
    overlaps: Overlaps = "none"
    num_levels: int = 10
    soft_nms_sigma: float = 0.5
    min_score: float = 0.0

    def __post_init__(self) -> None:
        make_fields_plain(self)
        check_window_lengths(None, self.hop_seconds, self.window_seconds)
        _check_seconds("smooth_seconds", self.smooth_seconds)
        for name in PER_CLASS:
            given = getattr(self, name)
            for label, seconds in given.items() if isinstance(given, Mapping) else [(None, given)]:
                _check_seconds(name if label is None else f"{name} of {label!r}", seconds)
        check_thresholds(self.threshold, self.hysteresis)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise FarfieldError(f"{name} is {getattr(self, name)!r}. {nearest(getattr(self, name), choices)}")
        if not 1 <= self.num_levels <= 100:
            raise FarfieldError(f"num_levels is {self.num_levels}; it must be from 1 to 100.")
        if not 0 < self.soft_nms_sigma < math.inf:
            raise FarfieldError(f"soft_nms_sigma is {self.soft_nms_sigma}; it must be a positive number.")
        if not 0 <= self.min_score <= 1:
            raise FarfieldError(f"min_score is {self.min_score}; it must be from 0 to 1.")
        needs = {"num_levels": ("soft_nms", "merge"), "soft_nms_sigma": ("soft_nms",)}
        for name, methods in needs.items():
            if self.overlaps not in methods and name in self.changed():
                raise FarfieldError(
                    f"{name} is {getattr(self, name)}, but overlaps is '{self.overlaps}', which does not use {name}. "
                    f"Leave out {name}, or set overlaps to {' or '.join(methods)}."
                )

    def settings(self) -> dict[str, Any]:
        """Return the options as plain types, for the file that records the settings of a results folder.

        An option that earlier versions did not have is included only if it differs from its default, so that results
        folders of those versions can still be resumed.
        """
        always = {name: getattr(self, name) for name in ("smooth_seconds", "min_seconds", "threshold")}
        return always | self.changed()

    def changed(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, in plain types."""
        given = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, (value, default) in given.items()
            if value != default
        }


PER_CLASS = ("min_seconds", "max_gap_seconds")
"""Options that are one number, or one for each class."""


def check_thresholds(threshold: float, hysteresis: float) -> None:
    """Check the thresholds at which segments (or alarms) start and end.

    Raises:
        FarfieldError: for values out of range.
    """
    if not 0 <= threshold < 1:
        raise FarfieldError(f"threshold is {threshold}; it must be a probability, at least 0 and below 1.")
    if not 0 < hysteresis <= 1:
        raise FarfieldError(
            f"hysteresis is {hysteresis}; it must be above 0 and at most 1. Give the probability at which a "
            "segment or alarm ends, divided by the probability at which it starts."
        )


def _check_seconds(name: str, given: float) -> None:
    if not 0 <= given < math.inf:
        raise FarfieldError(f"{name} is {given}; it must be 0 or more, and finite.")
