"""Match predicted segments to true ones by temporal IoU (tIoU), as ActivityNet's evaluation does.

The tIoU of two segments is the length of their intersection over the length of their union. Predicted segments are
processed in descending order of score. Each is compared with the still unmatched true segments of its video and class.
It is matched to the one with the highest tIoU if that tIoU reaches the threshold. A matched predicted segment is a true
positive. Any other predicted segment, such as a second prediction of the same action, is a false positive.

ActivityNet's evaluation loops over the segments. This code gives the same matches faster: it sorts all pairs of a
predicted and a true segment by the rank of the predicted segment, then by tIoU. A pair is a match if no earlier pair
contains one of its two segments. Each match is removed, together with all other pairs that contain one of its segments.
These steps are repeated until no pair is left, usually one to three times.

Cases in which public implementations differ or do not define the result:
- Predicted segments with equal scores. This code and MMAction2 1.2.0 keep their order in the input. ActivityNet's
  evaluation uses NumPy's default sort, which orders equal values differently on different processors.
- Two true segments that have equal tIoU with a predicted one. This code matches the one that is later in the input.
  (A stable ascending sort of the tIoUs, read from its end, gives the same result.)
- Rounding of tIoU. This code computes in float64, as ActivityNet's evaluation does. MMAction2 1.2.0 rounds to float32,
  so that a tIoU of exactly 0.7 does not reach the threshold 0.7 there.
- A predicted and a true segment of length 0, whose tIoU is 0 / 0. This code does not match them. ActivityNet's
  evaluation and MMAction2 1.2.0 match them if they are in the same video, because NaN is not below any threshold.
- Duplicate true segments, and true segments of length 0. This code counts them as true segments, as ActivityNet's
  evaluation and MMAction2 do. ActionFormer 1.5.0 and OpenTAD remove them before the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from farfield.evaluation.segment_arrays import Segments
from farfield.timelines.overlaps import temporal_iou


@dataclass(frozen=True)
class RankedMatches:
    """Ranking of one class's predicted segments by score, highest first, and which segments match a true one.

    Attributes:
        order: for each rank, the index of the predicted segment in the input of `match_segments`.
        matched: for each tIoU threshold (row) and rank (column), whether the predicted segment is a true positive.
    """

    order: Int[np.ndarray, " predicted"]
    matched: Bool[np.ndarray, "tious predicted"]


def match_segments(truth: Segments, predicted: Segments, tious: Sequence[float]) -> RankedMatches:
    """Match the predicted segments of one class to the true segments of this class, at each tIoU threshold.

    Args:
        truth: true segments of one class only: the classes of segments are not compared.
        predicted: predicted segments of the same class only, with scores.
        tious: tIoU thresholds.

    Raises:
        ValueError: if a threshold is outside (0, 1], or if the predicted segments have no scores.
    """
    if not all(0 < each <= 1 for each in tious):
        raise ValueError(f"tIoU thresholds are {list(tious)}; each must be above 0 and at most 1.")
    order = np.argsort(-predicted.known_scores(), kind="stable")
    ranks, trues, overlap = _pairs(truth, predicted, order, min(tious, default=1.0))
    matched = np.zeros((len(tious), len(order)), dtype=bool)
    for row, least in zip(matched, tious, strict=True):
        enough = overlap >= least
        row[_match(ranks[enough], trues[enough], len(order), len(truth))] = True
    return RankedMatches(order, matched)


def _pairs(
    truth: Segments, predicted: Segments, order: Int[np.ndarray, " predicted"], least: float
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Find all pairs of a predicted and a true segment that are in the same video and have a tIoU of at least `least`.

    Args:
        truth: true segments.
        predicted: predicted segments.
        order: for each rank, the index of the predicted segment.
        least: minimum tIoU.

    Returns:
        For each pair: rank of the predicted segment, index of the true segment, and tIoU. The pairs are sorted by rank
        (lowest first), then tIoU (highest first), then index (highest first).
    """
    videos, starts, ends = predicted.videos[order], predicted.starts[order], predicted.ends[order]
    # A true segment is at most 1 / least times as long as the predicted one, so it starts within this time before it.
    # NumPy orders complex numbers by the real part, then by the imaginary one: here by video, then by time.
    by_start = np.argsort(truth.videos + 1j * truth.starts, kind="stable")
    keys = (truth.videos + 1j * truth.starts)[by_start]
    reach = (ends - starts) / least
    first = np.searchsorted(keys, videos + 1j * (starts - reach), side="left")
    count = np.maximum(np.searchsorted(keys, videos + 1j * ends, side="left") - first, 0)
    ranks = np.repeat(np.arange(len(order)), count)
    places = np.arange(len(ranks)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    trues = by_start[places]
    overlap = temporal_iou(starts[ranks], ends[ranks], truth.starts[trues], truth.ends[trues])
    enough = overlap >= least
    ranks, trues, overlap = ranks[enough], trues[enough], overlap[enough]
    sorting = np.lexsort((-trues, -overlap, ranks))
    return ranks[sorting], trues[sorting], overlap[sorting]


def _match(
    ranks: Int[np.ndarray, " pairs"], trues: Int[np.ndarray, " pairs"], predicted: int, true: int
) -> Int[np.ndarray, " matches"]:
    """Return the ranks of the predicted segments that match a true one, given all pairs that reach a tIoU threshold.

    Args:
        ranks: rank of the predicted segment of each pair. The pairs are in the order of `_pairs`.
        trues: index of the true segment of each pair.
        predicted: number of predicted segments.
        true: number of true segments.
    """
    found = []
    while len(ranks):
        places = np.arange(len(ranks))
        first_of_rank, first_of_true = np.empty(predicted, np.int64), np.empty(true, np.int64)
        first_of_rank[ranks[::-1]] = places[::-1]  # of repeated indices, the last value stays: the first pair's
        first_of_true[trues[::-1]] = places[::-1]
        match = (first_of_rank[ranks] == places) & (first_of_true[trues] == places)
        found.append(ranks[match])
        rank_left, true_left = np.ones(predicted, dtype=bool), np.ones(true, dtype=bool)
        rank_left[ranks[match]] = False
        true_left[trues[match]] = False
        left = rank_left[ranks] & true_left[trues]
        ranks, trues = ranks[left], trues[left]
    return np.concatenate(found) if found else np.empty(0, np.int64)
