"""Find near-duplicates: copies of a video in another size, codec or quality.

The thumbnails of a video are divided into their mean over time (static part) and the differences from this mean (moving
part). Two videos are near-duplicates if their durations are nearly equal, and if both parts correlate between the
videos. Different recordings of one place correlate only in the static part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8

STILL, MOVING = 0.985, 0.9
"""Correlations of the static part and of the moving part above which two videos are near-duplicates."""

NOISE = 0.5
"""Root mean square, in grey levels, below which a moving part counts as noise.

If the moving parts of both videos are noise, only the static parts are compared.
"""

_TABLES, _BITS = 12, 16


def find_near_duplicates(
    thumbnails: UInt8[np.ndarray, "n t h w"], durations_seconds: Float[np.ndarray, " n"]
) -> list[tuple[int, int]]:
    """Find pairs of near-duplicates, from thumbnails and durations.

    Two videos are near-duplicates if all of these hold:

    - Their durations differ by less than 0.1 s + 1 % of the duration of the video with the larger index.
    - Their static parts (means of the thumbnails over time) have a correlation above `STILL`.
    - Their moving parts (differences of the thumbnails from this mean) have a correlation above `MOVING`, or both
      moving parts are noise (see `NOISE`).

    To save time, a pair is compared only if the static parts have an equal hash in at least one of 12 hash tables. A
    hash consists of the signs of 16 random projections. If the static parts of near-duplicates have a correlation of
    0.99, about one pair in 2500 is missed.

    Args:
        thumbnails: grey thumbnails of t frames of each of n videos.
        durations_seconds: duration of each video.

    Returns:
        Pairs of indices of videos, the smaller index first, sorted.
    """
    if len(thumbnails) < 2:
        return []
    still = thumbnails.mean(1, dtype=np.float32).reshape(len(thumbnails), -1)
    still = _unit(still - still.mean(1, keepdims=True))
    found: set[tuple[int, int]] = set()
    compared: set[int] = set()
    for first, second in _candidates(still, durations_seconds):
        codes = first.astype(np.int64) * len(thumbnails) + second
        new = np.array([code not in compared for code in codes.tolist()])  # not compared already for another table
        compared.update(codes.tolist())
        first, second = first[new], second[new]
        if not len(first):
            continue
        moving, other = _moving(thumbnails[first]), _moving(thumbnails[second])
        energy, other_energy = (np.sqrt(np.mean(each**2, axis=1)) for each in (moving, other))
        alike = np.einsum("nd,nd->n", _unit(moving), _unit(other)) > MOVING
        alike |= (energy < NOISE) & (other_energy < NOISE)
        found |= set(zip(first[alike].tolist(), second[alike].tolist(), strict=True))
    return sorted(found)


def _candidates(
    still: Float[np.ndarray, "n d"], durations: Float[np.ndarray, " n"]
) -> Iterator[tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]]:
    """Yield, in chunks, the pairs of videos with an equal hash, nearly equal durations and correlated static parts.

    A pair may be yielded several times. `find_near_duplicates` describes the hash and the limits.

    Args:
        still: static part of each video, with d pixels, mean 0 and norm 1.
        durations: duration of each video in seconds.

    Yields:
        (first, second): indices of the videos of some pairs; each index in `first` is below that in `second`.
    """
    rng = np.random.default_rng(0)
    for _ in range(_TABLES):
        bits = still @ rng.standard_normal((still.shape[1], _BITS), dtype=np.float32) > 0
        keys = bits @ (1 << np.arange(_BITS))
        order = np.argsort(keys, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for begin in range(0, len(group), 1000):
                part = group[begin : begin + 1000]
                agree = still[part] @ still[group].T > STILL
                agree &= np.abs(durations[part][:, None] - durations[group]) < 0.1 + 0.01 * durations[group]
                agree &= part[:, None] < group
                rows, columns = np.nonzero(agree)
                for start in range(0, len(rows), 10_000):
                    yield part[rows[start : start + 10_000]], group[columns[start : start + 10_000]]


def _moving(thumbnails: UInt8[np.ndarray, "n t h w"]) -> Float[np.ndarray, "n d"]:
    pictures = thumbnails.astype(np.float32)
    return (pictures - pictures.mean(1, keepdims=True)).reshape(len(pictures), -1)


def _unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
