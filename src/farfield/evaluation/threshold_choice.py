"""Choose a threshold for each class on validation videos, and apply thresholds to scores.

A rule such as "recall=0.9" decides which threshold is best. The candidate thresholds of a class are its scores.
Precision and recall at each candidate are computed by torchmetrics' `binary_precision_recall_curve`.

A float32 softmax rounds probabilities above 1 - 3e-8 to exactly 1, and whether a probability is rounded to 1 depends on
the batch and the device. Scores above `HIGHEST` are therefore replaced by `HIGHEST`, so that no threshold is 1.

torchmetrics' `binary_recall_at_fixed_precision` and `binary_precision_at_fixed_recall` choose the same thresholds (unit
tests compare them). They are not used, because `binary_precision_at_fixed_recall` loops over the videos in Python and
is slow.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_precision_recall_curve,
)

from farfield.data.manifest import Manifest
from farfield.errors import FarfieldError
from farfield.models.operating_point import OperatingPoint, reaches

HIGHEST = 1 - 1e-6
"""Highest threshold that is chosen. Float32 probabilities above it differ by rounding only."""
MIN_DETECTIONS = 20
"""Minimum number of detections on the validation videos. If a threshold has fewer, a warning names its class."""

log = logging.getLogger("farfield")

RULES = ("f1", "precision=0.95", "recall=0.9", "false_alarms_per_hour=1")
"""The rules, with examples of their values."""


@dataclass(frozen=True)
class ThresholdRule:
    """Rule for choosing the threshold of a class.

    Args:
        kind: which threshold is chosen:
            - "f1": the one with the highest F1
            - "precision": among those with a precision of at least `value`, the one with the highest recall
            - "recall": among those with a recall of at least `value`, the one with the highest precision
            - "false_alarms_per_hour": among those with at most `value` false alarms (wrong predictions of the class)
              per hour of video, the one with the highest recall
            If several thresholds are equally good, "recall" chooses the one with the highest recall, and the other
            kinds choose the one with the fewest false alarms.
        value: minimum precision, minimum recall or maximum number of false alarms per hour; None for "f1".

    Raises:
        FarfieldError: for an unknown kind, or a value that is missing, out of range, or given for "f1".
    """

    kind: str
    value: float | None = None

    def __post_init__(self) -> None:
        kinds = [rule.partition("=")[0] for rule in RULES]
        if self.kind not in kinds or (self.value is None) != (self.kind == "f1"):
            raise FarfieldError(
                f"choose_threshold is {str(self)!r}. Give one of {', '.join(RULES)}; the numbers are examples."
            )
        if self.value is not None:
            share = self.kind in ("precision", "recall")
            if not (0 < self.value <= 1 if share else 0 <= self.value < math.inf):
                wanted = "above 0 and at most 1" if share else "at least 0"
                raise FarfieldError(f"choose_threshold is {str(self)!r}; the value must be {wanted}.")

    @classmethod
    def parse(cls, text: str) -> ThresholdRule:
        """Parse a rule such as "recall=0.9"; `RULES` has an example of each kind.

        Raises:
            FarfieldError: for an unknown kind, or a value that is missing, not a number, out of range, or given for
                "f1".
        """
        kind, equals, value = text.partition("=")
        try:
            number = float(value) if equals else None
        except ValueError:
            raise FarfieldError(
                f"choose_threshold is {text!r}, whose value is not a number. Give one of {', '.join(RULES)}."
            ) from None
        return cls(kind.strip(), number)

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}={self.value:g}"


def decide(
    scores: Float[Tensor, "n classes"], labels: Sequence[str], point: OperatingPoint
) -> tuple[Bool[Tensor, "n classes"], Bool[Tensor, " classes"]]:
    """Decide which classes are predicted for each video: those whose score reaches the threshold of the class.

    Args:
        scores: probabilities, without temperature scaling.
        labels: label of each column.
        point: thresholds.

    Returns:
        Whether each class is predicted for each video, and whether each class has a threshold.
    """
    limits = [point.thresholds.get(label) for label in labels]
    return reaches(scores, limits), torch.tensor([limit is not None for limit in limits])


def choose_thresholds(
    scores: Float[Tensor, "n classes"],
    targets: Bool[Tensor, "n classes"],
    labels: Sequence[str],
    rule: ThresholdRule,
    *,
    hours: float | None = None,
) -> OperatingPoint:
    """Choose each class's threshold among its scores on validation videos.

    Args:
        scores: probabilities in [0, 1], without temperature scaling.
        targets: True where the video has the class.
        labels: label of each column.
        rule: how to choose.
        hours: length of all videos together; needed for "false_alarms_per_hour" only.

    Raises:
        ValueError: if `hours` is needed and missing.
        FarfieldError: for scores that are NaN or infinite, or if no video has any class.
    """
    if not scores.isfinite().all():
        raise FarfieldError("scores are NaN or infinite, so no threshold can be chosen. Check the network's weights.")
    if not targets.any():
        raise FarfieldError("no validation video has any class, so no threshold can be chosen. Give labelled videos.")
    if rule.kind == "false_alarms_per_hour" and hours is None:
        raise ValueError("hours is None, but false_alarms_per_hour needs the length of the videos. Give hours.")
    columns, wanted = scores.double().clamp(0, HIGHEST).T.contiguous(), targets.T.long().contiguous()
    found = {
        label: _choose(columns[c], wanted[c], rule, hours) if wanted[c].any() else None
        for c, label in enumerate(labels)
    }
    detections = {
        label: None if threshold is None else int((columns[c] >= threshold).sum())
        for c, (label, threshold) in enumerate(found.items())
    }
    return OperatingPoint(str(rule), found, len(scores), detections)


def warn_of_few_detections(point: OperatingPoint, rule: ThresholdRule) -> None:
    """Log a warning that names the classes whose threshold was chosen on fewer than `MIN_DETECTIONS` detections.

    A detection is a validation video that reaches the threshold of the class or, on timelines, a segment that is found
    with this threshold.

    For the rule "precision=p", the warning also states how many detections of a class, all of them correct, would show
    with 95% confidence that its precision is at least p. This number is the smallest n with p^n <= 0.05; for p near 1,
    n is about 3 / (1 - p), the rule of three (Hanley and Lippman-Hand, "If nothing goes wrong, is everything all
    right?", JAMA 1983). The warning states n only if n is above `MIN_DETECTIONS`.

    Args:
        point: chosen thresholds, with the number of detections of each class.
        rule: rule by which they were chosen.
    """
    counts = {label: count for label, count in (point.detections or {}).items() if count is not None}
    few = sorted(
        ((count, label) for label, count in counts.items() if count < MIN_DETECTIONS), key=lambda each: each[0]
    )
    if not few:
        return
    named = ", ".join(f"{label} {count}" for count, label in few[:10]) + (", ..." if len(few) > 10 else "")
    text = (
        f"{len(few)} of {len(counts)} thresholds were chosen on fewer than {MIN_DETECTIONS} detections each ({named}), "
        f"so {rule} may not hold on other videos."
    )
    value = rule.value if rule.kind == "precision" and rule.value != 1 else None
    needed = 0 if value is None else math.ceil(math.log(0.05) / math.log(value))
    if needed > MIN_DETECTIONS:
        text += (
            f" For a precision of {value:g} with 95% confidence, {needed} detections without a false one are needed."
        )
    log.warning("%s Give more validation videos.", text)


def _choose(scores: Float[Tensor, " n"], targets: Tensor, rule: ThresholdRule, hours: float | None) -> float | None:
    """Choose the threshold of one class; None if the rule allows no threshold with a recall above 0."""
    curve = binary_precision_recall_curve(scores, targets, validate_args=False)
    thresholds = curve[2]  # ascending
    # Without the end at recall 0, which has no threshold.
    precision, recall = (each[:-1].double() for each in curve[:2])
    negatives = scores[targets == 0].sort().values
    false_alarms = len(negatives) - torch.searchsorted(negatives, thresholds)
    best = best_candidates(precision=precision, recall=recall, false_alarms=false_alarms, rule=rule, hours=hours)
    return float(thresholds[best][-1]) if best.any() else None  # ties go to the highest threshold


def best_candidates(
    *,
    precision: Float[Tensor, " candidates"],
    recall: Float[Tensor, " candidates"],
    false_alarms: Tensor,
    rule: ThresholdRule,
    hours: float | None,
) -> Bool[Tensor, " candidates"]:
    """Return, for each candidate threshold, whether the rule ranks it best. Several may be equally good.

    All values are False if the rule allows no candidate with a recall above 0.

    Args:
        precision: precision at each candidate.
        recall: recall at each candidate.
        false_alarms: number of false alarms at each candidate.
        rule: how to choose.
        hours: length of all videos together; needed for "false_alarms_per_hour" only.
    """
    allowed, best = torch.ones_like(recall, dtype=torch.bool), recall
    if rule.kind == "f1":
        best = (2 * precision * recall / (precision + recall)).nan_to_num()
    elif rule.kind == "precision":
        allowed = precision >= _required(rule.value) - _ROUNDING
    elif rule.kind == "recall":
        allowed, best = recall >= _required(rule.value) - _ROUNDING, precision
    else:
        allowed = false_alarms <= _required(rule.value) * _required(hours) + _ROUNDING
    allowed &= recall > 0
    second = recall if rule.kind == "recall" else -false_alarms.double()
    for quality in (best, second):
        if allowed.any():
            allowed &= quality >= quality[allowed].max() - _ROUNDING
    return allowed


_ROUNDING = 1e-6
"""Differences below this are rounding: torchmetrics computes precision and recall in float32."""


def _required(value: float | None) -> float:
    assert value is not None
    return value


def hours_of_video(manifest: Manifest, rows: Sequence[int]) -> float:
    """Return the total length, in hours, of the videos or segments in the given rows of a manifest.

    Raises:
        FarfieldError: if the manifest has no duration for a row.
    """
    seconds = 0.0
    for row in rows:
        record = manifest[row]
        end = record.duration_seconds if record.end_seconds is None else record.end_seconds
        if end is None:
            raise FarfieldError(
                f"{manifest.source} has no duration_seconds for {record.path}, but false_alarms_per_hour needs the "
                "length of each video. Run `farfield data index` to write a manifest with this column."
            )
        seconds += end - (record.start_seconds or 0)
    return seconds / 3600
