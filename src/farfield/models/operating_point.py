"""Operating point of a network: for each class, the lowest probability at which the class is predicted."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.task import Task

log = logging.getLogger("farfield")

DEFAULT_THRESHOLD = 0.5
"""Threshold of a class of a multilabel network if none was chosen for it."""


@dataclass(frozen=True)
class OperatingPoint:
    """Thresholds of a network's classes, from `farfield test --choose_threshold`.

    For a video or a clip, a class is predicted if its probability, aggregated over views, is at least its threshold. On
    a timeline, the threshold is compared with the probability at each moment instead. In both cases, no temperature is
    applied to the probability.

    Attributes:
        rule: how the thresholds were chosen, such as "precision=0.95".
        thresholds: threshold of each class, by label; None for a class that has no validation videos, or for which no
            threshold satisfies the rule.
        validation_videos: number of videos that the thresholds were chosen on.
        detections: by label, the number of validation videos for which the class is predicted at its threshold, rightly
            or wrongly; on timelines, the number of predicted segments, right or wrong. The number is None for a class
            without a threshold. `detections` itself is None if the operating point was read from a file that a version
            before 0.2 wrote.
    """

    rule: str
    thresholds: Mapping[str, float | None]
    validation_videos: int
    detections: Mapping[str, int | None] | None = None

    def __post_init__(self) -> None:
        numbers = {label: None if value is None else float(value) for label, value in self.thresholds.items()}
        object.__setattr__(self, "thresholds", numbers)

    def to_dict(self) -> dict[str, Any]:
        """Return the operating point as a dict of plain types, for checkpoints, exported files and reports."""
        content = {
            "rule": self.rule,
            "thresholds": dict(self.thresholds),
            "validation_videos": self.validation_videos,
        }
        return content if self.detections is None else {**content, "detections": dict(self.detections)}

    def to_dict_for(self, labels: Sequence[str]) -> dict[str, Any] | None:
        """Return `to_dict()` if the operating point's labels are `labels`; otherwise log a warning and return None."""
        if list(self.thresholds) == list(labels):
            return self.to_dict()
        log.warning(
            "the thresholds of the classes are not saved, since the network's labels have been changed. Choose them "
            "again with farfield test --choose_threshold."
        )
        return None

    @classmethod
    def from_dict(cls, content: Any, labels: Sequence[str], path: object) -> OperatingPoint | None:
        """Check untrusted content and rebuild an operating point from it; return None if the content is None.

        Args:
            content: result of `to_dict`, unchecked, or None.
            labels: labels of the network.
            path: file that holds the content, for messages.

        Raises:
            FarfieldError: if the content is not an operating point of these labels.
        """
        if content is None:
            return None
        try:
            rule, thresholds, videos = (content[name] for name in ("rule", "thresholds", "validation_videos"))
            numbers = [value for value in thresholds.values() if value is not None]
            detections = content.get("detections")
            counts = [] if detections is None else [count for count in detections.values() if count is not None]
            valid = (
                isinstance(rule, str)
                and type(videos) is int
                and list(thresholds) == list(labels)
                and all(type(value) is float and math.isfinite(value) for value in numbers)
                and (detections is None or list(detections) == list(labels))
                and all(type(count) is int for count in counts)
            )
        except (TypeError, LookupError, AttributeError):
            valid = False
        if not valid:
            raise FarfieldError(
                f"{path} has thresholds that do not fit its classes. Choose them again with farfield test "
                "--choose_threshold."
            )
        return cls(rule, dict(thresholds), videos, None if detections is None else dict(detections))


class HasOperatingPoints(Protocol):
    """A network with labels and two operating points: one for videos and clips, and one for timelines.

    An operating point is None if no thresholds were chosen.
    """

    labels: list[str]
    operating_point: OperatingPoint | None
    timeline_operating_point: OperatingPoint | None


OPERATING_POINTS = ("operating_point", "timeline_operating_point")
"""Names of a network's attributes that hold thresholds. Files store the thresholds under the same names."""


def operating_points_to_dict(network: HasOperatingPoints) -> dict[str, dict[str, Any]]:
    """Return a network's operating points as plain types, under "operating_point" and "timeline_operating_point".

    The result omits an operating point that is None, or that was chosen before the labels were changed. In the second
    case, a warning is logged.
    """
    points = {name: getattr(network, name) for name in OPERATING_POINTS}
    stored = {name: point.to_dict_for(network.labels) for name, point in points.items() if point is not None}
    return {name: content for name, content in stored.items() if content is not None}


def set_operating_points(network: HasOperatingPoints, content: Mapping[str, Any], path: object) -> None:
    """Set a network's operating points from the content of an untrusted file.

    An operating point that the file lacks is set to None.

    Args:
        network: the network, whose labels must already be set.
        content: content of the file. The entries that `operating_points_to_dict` writes are read; others are ignored.
        path: the file, for messages.

    Raises:
        FarfieldError: if thresholds do not fit the labels.
    """
    for name in OPERATING_POINTS:
        setattr(network, name, OperatingPoint.from_dict(content.get(name), network.labels, path))


def class_thresholds(labels: Sequence[str], point: OperatingPoint | None, task: Task) -> list[float | None]:
    """Return the threshold of each class.

    A class for which no threshold was chosen gets `DEFAULT_THRESHOLD` in a multilabel task, and None in other tasks.

    Args:
        labels: classes, in the order of the result.
        point: the chosen thresholds; None if none were chosen for any class.
        task: task of the network.
    """
    default = DEFAULT_THRESHOLD if task == "multilabel" else None
    found = [None if point is None else point.thresholds.get(label) for label in labels]
    return [default if threshold is None else threshold for threshold in found]


def reaches(scores: Float[Tensor, "n classes"], thresholds: Sequence[float | None]) -> Bool[Tensor, "n classes"]:
    """Return whether each score is at least the threshold of its class; False for a class without a threshold."""
    limits = torch.tensor([math.nan if each is None else each for each in thresholds], dtype=torch.float64)
    return scores.double() >= limits
