"""Evaluation of temporal detection as public code has it, restated as slow loops over one prediction or moment.

- `average_precision`: ActivityNet's (github.com/activitynet/ActivityNet at 2795199, Evaluation/eval_detection.py and
  utils.py), with MMAction2 1.2.0's order of equal scores (mmaction/evaluation/functional/eval_detection.py).
- `charades_average_precision`: Charades_v1_localize.m of the Charades data set.

`random_case` makes the cases on which the packages themselves were run, see record_temporal_detection.py.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

TrueSegment = tuple[int, float, float]
"""Video, start and end."""
ScoredSegment = tuple[int, float, float, float]
"""Video, start, end and score."""


def tiou(start: float, end: float, other_start: float, other_end: float) -> float:
    shared = max(min(end, other_end) - max(start, other_start), 0)
    union = (end - start) + (other_end - other_start) - shared
    return shared / union if union > 0 else 0.0


def matches(truth: list[TrueSegment], predicted: list[ScoredSegment], least: float) -> list[bool]:
    """Return whether each prediction is a true positive, in the order of their scores, equal ones as given."""
    taken = [False] * len(truth)
    found = []
    for video, start, end, _ in sorted(predicted, key=lambda each: -each[3]):
        overlaps = [tiou(start, end, *each[1:]) if each[0] == video else -1.0 for each in truth]
        best_first = sorted(range(len(truth)), key=lambda j: (-overlaps[j], -j))
        hit = next((j for j in best_first if overlaps[j] >= least and not taken[j]), None)
        if hit is not None:
            taken[hit] = True
        found.append(hit is not None)
    return found


def average_precision(truth: list[TrueSegment], predicted: list[ScoredSegment], least: float) -> float:
    hits = matches(truth, predicted, least)
    precision = [0.0] + [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))] + [0.0]
    recall = [0.0] + [sum(hits[: i + 1]) / len(truth) for i in range(len(hits))] + [1.0]
    for i in reversed(range(len(precision) - 1)):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def charades_average_precision(durations: list[float], truth: list[TrueSegment], scores: list[list[float]]) -> float:
    """Average precision of one class from the scores of 25 moments of each video."""
    moments = []
    for video, duration in enumerate(durations):
        for j in range(25):
            time = j / 25 * duration
            positive = any(v == video and start <= time <= end for v, start, end in truth)
            moments.append((scores[video][j], positive))
    moments.sort(key=lambda each: -each[0])
    positives = sum(positive for _, positive in moments)
    total, right = 0.0, 0
    for rank, (_, positive) in enumerate(moments, start=1):
        right += positive
        total += right / rank if positive else 0.0
    return total / positives


@dataclass
class Case:
    """True and predicted segments of each class, in the order of their videos.

    Attributes:
        plain: whether the packages agree: no equal scores, and no duplicates or segments without length in the truth.
    """

    truth: dict[int, list[TrueSegment]] = field(default_factory=dict)
    predicted: dict[int, list[ScoredSegment]] = field(default_factory=dict)
    plain: bool = True


def random_case(seed: int) -> Case:
    """Make a case. Each class of the truth may have no predictions; one class has predictions only."""
    rng = random.Random(seed)  # the same numbers in every release of Python
    equal_scores, odd_truth, points = rng.random() < 0.3, rng.random() < 0.3, rng.random() < 0.3
    case = Case(plain=not (equal_scores or odd_truth))
    videos, classes = rng.randint(1, 4), rng.randint(1, 4)
    for c in range(classes + 1):
        truth: list[TrueSegment] = []
        for _ in range(rng.randint(1, 9)):
            video, start = rng.randrange(videos), 60 * rng.random()
            truth.append((video, start, start + 0.5 + 15 * rng.random()))
        if odd_truth:
            video, start, end = rng.choice(truth)
            truth.append((video, start, end))  # a duplicate
            truth.append((video, end, end + 3))  # touches it
            if not points:  # there, a prediction without length matches any true one without length
                truth.append((video, start, start))
        predicted: list[ScoredSegment] = []
        for _ in range(rng.randint(0, 16)):
            video, start, end = rng.choice([each for each in truth if each[2] > each[1]])
            kind = rng.random()
            if kind < 0.7:
                span = max(end - start, 1.0)
                start += span * rng.gauss(0, 0.2)
                end = start + span * (0.6 + 0.8 * rng.random())
            elif kind < 0.8:
                video, start = rng.randrange(videos), 60 * rng.random()
                end = start if points else start + 10 * rng.random()
            score = rng.random()
            predicted.append((video, start, end, round(score, 1) if equal_scores else score))
        case.predicted[c] = sorted(predicted, key=lambda each: each[0])
        if c < classes:
            case.truth[c] = sorted(truth, key=lambda each: each[0])
    return case
