"""Choose a threshold for each class on the timelines of validation videos, by a rule.

The metrics of a timeline count segments, not clips, so a threshold that was chosen on clips does not fit. At each
candidate threshold, the segments of all videos are found again, and matched to the true segments of their class at a
temporal intersection over union (tIoU) of 0.5. This gives precision, recall and false alarms. The rules are those of
`threshold_choice`.

A match at a tIoU of 0.5 does not mean that the segment has the right length. For actions that are easy to detect, many
thresholds are equally good: the highest ones make segments too short, the lowest ones too long. Therefore the middle of
their range is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from farfield.errors import FarfieldError
from farfield.evaluation.frame_metrics import ScoredCells
from farfield.evaluation.segment_arrays import Segments, predicted_segments
from farfield.evaluation.segment_matching import match_segments
from farfield.evaluation.threshold_choice import HIGHEST, ThresholdRule, best_candidates
from farfield.models.operating_point import OperatingPoint
from farfield.progress import ProgressBar
from farfield.timelines.segments import Segment, find_segments_of_each_class

FindSegments = Callable[[np.ndarray, np.ndarray, list[str], np.ndarray], list[Segment]]
"""Function that finds segments. Its arguments are the times and probabilities of cells, the labels and thresholds."""

EVEN_CANDIDATES = tuple(np.linspace(0.05, 0.95, 19).tolist())
"""Candidate thresholds of every class in addition to its probabilities. They cover gaps between the probabilities."""


def choose_timeline_thresholds(
    videos: Sequence[ScoredCells],
    truth: Segments,
    labels: Sequence[str],
    rule: ThresholdRule,
    *,
    tiou: float = 0.5,
    find: FindSegments = find_segments_of_each_class,
    max_probabilities: int = 100,
) -> OperatingPoint:
    """Choose each class's threshold on validation timelines.

    A predicted segment that matches no true one at `tiou` is a false alarm.

    The candidate thresholds of a class are its distinct probabilities, and the values in `EVEN_CANDIDATES` between the
    lowest and the highest of these probabilities. If the class has more than `max_probabilities` distinct
    probabilities, only some of them are candidates. From each of these two sorted lists, up to
    `max_probabilities // 2` are picked at even steps:
    - the distinct probabilities inside true segments of the class
    - all distinct probabilities of the class

    If the rule ranks several candidates as best, they form ranges of neighbouring candidates. The candidate nearest to
    the middle of the widest range is chosen.

    Args:
        videos: class probabilities of each video over time.
        truth: true segments.
        labels: class names, in the order of the probabilities' columns.
        rule: rule for choosing a threshold.
        tiou: minimum temporal intersection over union at which a predicted segment matches a true one, above 0 and at
            most 1.
        find: function that finds segments. It should use the same options, such as a minimum length, as later
            predictions.
        max_probabilities: maximum number of a class's probabilities that are candidates, at least 2.

    Returns:
        The threshold of each class. It is None if no candidate with a recall above 0 satisfies the rule, or if the
        class has no true segment.

    Raises:
        FarfieldError: for probabilities that are NaN or infinite, or if there is no true segment.
    """
    if not all(np.isfinite(each.probabilities).all() for each in videos):
        raise FarfieldError("scores are NaN or infinite, so no threshold can be chosen. Check the network's weights.")
    if not len(truth):
        raise FarfieldError(
            "no validation video has a labelled segment, so no threshold can be chosen. Give videos with segments."
        )
    names = list(labels)
    hours = sum(float(each.times[-1] - each.times[0]) for each in videos) / 3600
    candidates = [_candidates(videos, truth, c, max_probabilities) for c in range(len(names))]
    hits, answers = _count_at(videos, truth, names, candidates, tiou, find)
    found: dict[str, float | None] = {}
    detections: dict[str, int | None] = {}
    for c, label in enumerate(names):
        right, all_of_class = (torch.from_numpy(each[: len(candidates[c]), c]) for each in (hits, answers))
        best = best_candidates(
            precision=right / all_of_class.clamp_min(1),
            recall=right / max(int((truth.classes == c).sum()), 1),
            false_alarms=all_of_class - right,
            rule=rule,
            hours=hours,
        )
        threshold = found[label] = _middle(candidates[c], best.numpy())
        at = None if threshold is None else int(np.searchsorted(candidates[c], threshold))
        detections[label] = None if at is None else int(answers[at, c])
    return OperatingPoint(str(rule), found, len(videos), detections)


def _candidates(videos: Sequence[ScoredCells], truth: Segments, c: int, most: int) -> Float[np.ndarray, " candidates"]:
    """Return the candidate thresholds of a class, ascending; none for a class without true segments.

    Args:
        videos: class probabilities of each video over time.
        truth: true segments of all classes.
        c: index of the class.
        most: maximum number of the class's probabilities that are candidates.
    """
    of_class = truth.of_class(c)
    if not len(of_class):
        return np.empty(0)
    every = np.concatenate([each.probabilities[:, c].astype(float) for each in videos]).clip(max=HIGHEST)
    values = np.unique(every)
    low, high = values[[0, -1]]
    even = np.array([each for each in EVEN_CANDIDATES if low < each < high])
    if len(values) <= most:
        return np.union1d(values, even)
    inside = [np.empty(0)]
    for video, (times, probabilities) in enumerate(videos):
        here = of_class.where(of_class.videos == video)
        for start, end in zip(here.starts, here.ends, strict=True):
            inside.append(probabilities[(times[1:] > start) & (times[:-1] < end), c].astype(float).clip(max=HIGHEST))
    parts = (np.unique(np.concatenate(inside)), values)
    return np.unique(np.concatenate([*(_spread(each, most // 2) for each in parts), even]))


def _spread(values: Float[np.ndarray, " n"], most: int) -> Float[np.ndarray, " some"]:
    """Return at most `most` of the ascending `values`, spread evenly by index, including the first and the last."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def _count_at(
    videos: Sequence[ScoredCells],
    truth: Segments,
    labels: list[str],
    candidates: Sequence[Float[np.ndarray, " _"]],
    tiou: float,
    find: FindSegments,
) -> tuple[Float[np.ndarray, "candidates classes"], Float[np.ndarray, "candidates classes"]]:
    """Count the correct segments and all predicted segments of each class, at each of its candidate thresholds.

    Returns:
        Number of correct segments, and number of predicted segments. Row i is for the i-th candidate of each class.
        Rows beyond the last candidate of a class are 0.
    """
    rounds = max(len(each) for each in candidates)
    hits, answers = np.zeros((rounds, len(labels))), np.zeros((rounds, len(labels)))
    of_class = [truth.of_class(c) for c in range(len(labels))]
    for i in ProgressBar(range(rounds), desc="thresholds", leave=False, delay=2):
        # All classes at once; one without an i-th candidate is not predicted.
        thresholds = np.array([each[i] if i < len(each) else np.inf for each in candidates])
        found = [find(times, probabilities, labels, thresholds) for times, probabilities in videos]
        predicted = predicted_segments(found, labels)
        for c in range(len(labels)):
            here = predicted.of_class(c)
            hits[i, c] = match_segments(of_class[c], here, [tiou]).matched.sum()
            answers[i, c] = len(here)
    return hits, answers


def _middle(thresholds: Float[np.ndarray, " candidates"], best: Bool[np.ndarray, " candidates"]) -> float | None:
    """Return the candidate nearest to the middle of the widest range of neighbouring candidates that are all best.

    Of equally wide ranges, the one with the highest thresholds is used; of two equally near candidates, the lower one.
    Returns None if no candidate is best.

    Args:
        thresholds: candidate thresholds, ascending.
        best: whether each candidate is one of the best.
    """
    places = np.flatnonzero(best)
    if not len(places):
        return None
    ranges = [thresholds[each] for each in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)]
    widest = max(ranges, key=lambda each: (each[-1] - each[0], each[-1]))
    return float(widest[np.abs(widest - (widest[0] + widest[-1]) / 2).argmin()])
