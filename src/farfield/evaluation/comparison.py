"""Compare two tested runs, video by video, with the paired bootstrap."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from farfield.errors import FarfieldError
from farfield.evaluation.scores_file import FILE, Scores, read_scores
from farfield.evaluation.significance import Difference, paired_bootstrap


@dataclass(frozen=True)
class Comparison:
    """Comparison of run B with run A, on the videos that both runs scored.

    Attributes:
        videos: number of videos that both runs scored.
        left_out: number of videos that only one run scored.
        right_in_a_only: number of videos that only A predicts correctly.
        right_in_b_only: number of videos that only B predicts correctly.
        top1: difference of top-1 accuracy.
        top5: difference of top-5 accuracy.
        mean_class_accuracy: difference of mean class accuracy.
    """

    videos: int
    left_out: int
    right_in_a_only: int
    right_in_b_only: int
    top1: Difference
    top5: Difference
    mean_class_accuracy: Difference


def compare_runs(run_a: str | Path, run_b: str | Path, *, draws: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two runs that were tested on the same videos.

    Args:
        run_a: run A, given as the run's folder, the folder of a test report, or a scores.npz file.
        run_b: run B, given in the same way.
        draws: bootstrap draws.
        seed: random seed of the bootstrap.

    Raises:
        FarfieldError: if a run has no scores, the runs have no videos in common, their classes or labels differ, or an
            option is out of range.
    """
    if draws < 100:
        raise FarfieldError(f"draws is {draws}; it must be at least 100, to resolve the bounds of the interval.")
    if seed < 0:
        raise FarfieldError(f"seed is {seed}; it must be at least 0.")
    a, b, left_out = _paired(_read(str(run_a)), _read(str(run_b)), str(run_a), str(run_b))
    targets = a.targets.numpy()
    return Comparison(
        len(targets),
        left_out,
        int((_hits(a, 1) > _hits(b, 1)).sum()),
        int((_hits(b, 1) > _hits(a, 1)).sum()),
        _difference(a, b, 1, None, draws, seed),
        _difference(a, b, 5, None, draws, seed),
        _difference(a, b, 1, targets, draws, seed),
    )


def _read(run: str) -> Scores:
    given = Path(run)
    places = [given, given / FILE, given / "test" / FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FarfieldError(f"{run} contains no scores ({FILE}). Give a run that was tested with `farfield test`.")
    scores = read_scores(found)
    if not scores.paths:
        raise FarfieldError(
            f"{found} contains no video scores. Test the run again on a manifest that lists at least one video."
        )
    if len(set(scores.names)) < len(scores.names):
        raise FarfieldError(f"{found} contains a video twice. Remove the duplicate from the manifest, and test again.")
    return scores


def _paired(a: Scores, b: Scores, name_a: str, name_b: str) -> tuple[Scores, Scores, int]:
    """Return both runs' scores of their shared videos, in A's order of videos and classes, and the number left out."""
    if set(a.labels) != set(b.labels):
        differing = sorted(set(a.labels) ^ set(b.labels))
        raise FarfieldError(
            f"the runs have different classes: {', '.join(differing[:5])} {'is' if len(differing) == 1 else 'are'} in "
            "one of them only. Test both with restrict_labels set to true on the same manifest."
        )
    names = a.names
    shared = _shared_rows(names, b.names)
    if len(shared) < min(len(a.paths), len(b.paths)):  # earlier versions stored the target of a link
        real_a, real_b = (replace(each, paths=[os.path.realpath(path) for path in each.paths]).names for each in (a, b))
        if len(set(real_a)) == len(real_a) and len(set(real_b)) == len(real_b):
            shared = _shared_rows(real_a, real_b)
    if not shared:
        raise FarfieldError(
            f"{name_a} and {name_b} have no video in common. For example, the first has {names[0]}, and the second has "
            f"{b.names[0]}. Test both on the same manifest."
        )
    in_a, in_b = (torch.tensor(rows) for rows in zip(*shared, strict=True))
    classes = torch.tensor([b.labels.index(label) for label in a.labels])
    targets, theirs = a.targets[in_a], b.targets[in_b]
    if not torch.equal(classes[targets], theirs):
        row = int((classes[targets] != theirs).nonzero()[0, 0])
        raise FarfieldError(
            f"{names[shared[row][0]]} has the label {a.labels[int(targets[row])]!r} in one run and "
            f"{b.labels[int(theirs[row])]!r} in the other. Test both on the same manifest."
        )
    paths = [a.paths[row] for row, _ in shared]
    first = Scores(a.labels, paths, targets, a.views[in_a])
    second = Scores(a.labels, paths, targets, b.views[in_b][:, :, classes])
    return first, second, len(a.paths) + len(b.paths) - 2 * len(shared)


def _shared_rows(a: list[str], b: list[str]) -> list[tuple[int, int]]:
    rows = {name: row for row, name in enumerate(b)}
    return [(row, rows[name]) for row, name in enumerate(a) if name in rows]


def _hits(scores: Scores, k: int) -> np.ndarray:
    best = scores.probabilities.topk(min(k, len(scores.labels)), dim=1).indices
    return (best == scores.targets[:, None]).any(1).double().numpy()


def _difference(a: Scores, b: Scores, k: int, groups: np.ndarray | None, draws: int, seed: int) -> Difference:
    return paired_bootstrap(_hits(a, k), _hits(b, k), groups=groups, draws=draws, seed=seed)
