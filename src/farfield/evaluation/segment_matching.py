"""Match predicted segments to true ones by temporal IoU (tIoU), as ActivityNet's evaluation does.

The tIoU of two segments is the length of their intersection over the length of their union. Predicted segments are
taken in the order of their scores, highest first. Each is compared with the true segments of its video and class that
are not matched yet, and is matched to the one with the highest tIoU if that tIoU reaches the threshold. A matched
predicted segment is a true positive. Any other predicted segment is a false positive, such as a second prediction of
the same action.

Instead of the loops of ActivityNet's evaluation, pairs of a predicted and a true segment are sorted by the rank of the
predicted segment, then by tIoU. A pair is a match if no earlier pair contains one of its two segments. A match is
removed together with all other pairs that contain one of its segments. This is repeated until no pair is left, usually
one to three times, and gives the same matches as the loops.

Where public implementations differ, or leave the result open:
- Equal scores. ActivityNet's evaluation sorts with NumPy's default sort, whose order of equal values depends on the
  processor; MMAction2 1.2.0 keeps the given order, and so does this code.
- Two true segments with equal tIoU: the later one in the input is matched. (To sort the tIoUs in ascending order with
  a stable sort, and then reverse the order, gives the same.)
- Precision of tIoU: float64, as ActivityNet's. MMAction2 1.2.0 rounds to float32, so that a tIoU of exactly 0.7 does
  not reach 0.7 there.
- Two segments without length, whose tIoU is 0 / 0: no match here. In ActivityNet's evaluation and MMAction2 1.2.0, NaN
  is not below any threshold, so such a prediction matches any true segment without length in the video.
- Duplicate true segments, and true segments without length, count as true segments, as in ActivityNet's evaluation and
  MMAction2. ActionFormer 1.5.0 and OpenTAD leave them out before they measure.
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
    """Predicted segments of one class in the order of their scores, and which of them match a true segment.

    Attributes:
        order: for each rank, the index of the segment in the unranked input.
        matched: whether a segment is a true positive, with a row for each tIoU threshold and a column for each rank.
    """

    order: Int[np.ndarray, " predicted"]
    matched: Bool[np.ndarray, "tious predicted"]


def match_segments(truth: Segments, predicted: Segments, tious: Sequence[float]) -> RankedMatches:
    """Match the predicted segments of one class to the true ones. The classes of the segments are not compared.

    Args:
        truth: true segments of the class.
        predicted: predicted segments of the class, with scores.
        tious: tIoU thresholds.

    Raises:
        ValueError: if a threshold is not above 0 and at most 1, or the predicted segments have no scores.
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
    """Find all pairs of a predicted and a true segment of one video with a tIoU of at least `least`.

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
    """Return the ranks of the predicted segments that match a true one.

    Args:
        ranks: rank of the predicted segment of each pair, in the order of `_pairs`.
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
