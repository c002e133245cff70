"""Handle overlapping candidate segments of a class: soft-NMS lowers their scores, weighted fusion averages them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

MERGE_OVERLAP = 0.55
"""Temporal IoU above which candidates are merged: the default in the authors' package, ensemble-boxes (`iou_thr`)."""


def temporal_iou(
    starts: Float[np.ndarray, " #n"],
    ends: Float[np.ndarray, " #n"],
    other_starts: Float[np.ndarray, " n"],
    other_ends: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Compute the temporal intersection over union (tIoU) of n pairs of time spans; 0 for two spans of length 0."""
    shared = np.maximum(np.minimum(ends, other_ends) - np.maximum(starts, other_starts), 0.0)
    union = (ends - starts) + (other_ends - other_starts) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def soft_nms(
    starts: Float[np.ndarray, " n"], ends: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"], sigma: float
) -> Float[np.ndarray, " n"]:
    """Temporal soft-NMS: lower the scores of candidates that overlap better candidates (Bodla et al., ICCV 2017).

    The candidate with the highest score is taken. The score s of each remaining candidate becomes
    s exp(-tIoU^2 / sigma), eq. 3 of the paper, where tIoU is its overlap with the taken candidate. Both steps are
    repeated until no candidate remains. Ties go to the first candidate.

    Args:
        starts: start of each candidate in seconds.
        ends: end of each candidate in seconds, later than its start.
        scores: score of each candidate, at least 0.
        sigma: width of the Gaussian, 0.5 in the paper.

    Returns:
        The new scores, in the order of the candidates. Unlike in the paper, candidates with low scores are not dropped.
    """
    scores = scores.copy()
    left = np.ones(len(scores), bool)
    for _ in range(len(scores)):
        best = int(np.where(left, scores, -np.inf).argmax())
        left[best] = False
        overlap = temporal_iou(starts[[best]], ends[[best]], starts[left], ends[left])
        scores[left] *= np.exp(-(overlap**2) / sigma)
    return scores


def merge_overlapping(
    starts: Float[np.ndarray, " n"], ends: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"], num_levels: int
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Average candidate segments that overlap: weighted boxes fusion, Solovyev et al., Image and Vision Computing 2021.

    Candidates are taken by score, highest first. Each candidate joins the group whose average it overlaps most, if the
    tIoU of candidate and average is above `MERGE_OVERLAP`; otherwise it starts a new group. The average is weighted by
    the scores. A group's score is the mean score of its n candidates, times min(n / `num_levels`, 1). A segment that is
    found at only one of several probability thresholds (levels) thus gets a low score. Ties go to the first candidate.

    Args:
        starts: start of each candidate in seconds.
        ends: end of each candidate in seconds, later than its start.
        scores: score of each candidate, at least 0.
        num_levels: number of probability thresholds at which candidates were searched.

    Returns:
        Start, end and score of each group, in the order in which the groups were started.
    """
    weights = np.maximum(scores, 1e-9)  # where all scores of a group are 0, a plain average
    bounds, count = np.stack([starts, ends], 1), 0
    first, last, score_sums, weight_sums = np.zeros((4, len(scores)))  # of each group
    members = np.zeros(len(scores), int)
    for candidate in np.argsort(-scores, kind="stable").tolist():
        start, end = bounds[candidate]
        overlap = temporal_iou(starts[[candidate]], ends[[candidate]], first[:count], last[:count])
        group = int(overlap.argmax()) if count else 0
        if count == 0 or overlap[group] <= MERGE_OVERLAP:
            group = count
            count += 1
        weight_sums[group] += weights[candidate]
        step = weights[candidate] / weight_sums[group]  # moves the average, and leaves equal bounds exactly as they are
        first[group] += step * (start - first[group])
        last[group] += step * (end - last[group])
        score_sums[group] += scores[candidate]
        members[group] += 1
    fused = score_sums / np.maximum(members, 1) * np.minimum(members, num_levels) / num_levels
    return first[:count], last[:count], fused[:count]
