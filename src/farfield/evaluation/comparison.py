"""Compare two tested runs, video by video, with the paired bootstrap."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.evaluation.metrics import most_probable
from farfield.evaluation.resampling import sampling_units, too_few_units
from farfield.evaluation.scored_run import ScoredRun, read_scored_run
from farfield.evaluation.scores_file import Scores
from farfield.evaluation.significance import Difference, paired_bootstrap
from farfield.evaluation.split_resampling import number_of_units

log = logging.getLogger("farfield")


@dataclass(frozen=True)
class Comparison:
    """Comparison of run B with run A, on the videos that both runs scored.

    Attributes:
        videos: number of videos that both runs scored.
        left_out: number of videos that only one run scored.
        right_in_a_only: number of videos that only A predicts correctly.
        right_in_b_only: number of videos that only B predicts correctly.
        top1: top-1 accuracy of B minus that of A.
        top5: top-5 accuracy of B minus that of A.
        mean_class_accuracy: mean class accuracy of B minus that of A.
        resampled: what the bootstrap draws, "groups" or "videos".
        units: number of these groups or videos. With fewer than `resampling.MIN_UNITS`, all intervals and p-values are
            NaN.
    """

    videos: int
    left_out: int
    right_in_a_only: int
    right_in_b_only: int
    top1: Difference
    top5: Difference
    mean_class_accuracy: Difference
    resampled: str
    units: int

    @property
    def why_no_intervals(self) -> str | None:
        """Return why there are no intervals; None if there are intervals."""
        return too_few_units(self.units, self.resampled)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain types, for JSON. Undefined values are None."""
        plain = {name: each.to_dict() if isinstance(each, Difference) else each for name, each in vars(self).items()}
        return {**plain, "no_intervals": self.why_no_intervals}


@dataclass(frozen=True)
class PairedScores:
    """Scores of two runs on the videos that both scored. Videos and classes have the order of run A.

    Attributes:
        a: scores of run A.
        b: scores of run B.
        groups: group of each of these videos (None for a video without a group), or None if neither run has a group
            for any of them.
        left_out: number of videos that only one run scored.
    """

    a: Scores
    b: Scores
    groups: Sequence[str | None] | None
    left_out: int

    @property
    def resampled(self) -> str:
        """What a bootstrap draws, "groups" or "videos"."""
        return "videos" if self.groups is None else "groups"

    def units(self) -> Int[Tensor, " n"]:
        """Return the index of each video's unit of the bootstrap, see `sampling_units`."""
        return sampling_units(self.groups, self.a.paths)


def compare_runs(
    run_a: str | Path | ScoredRun, run_b: str | Path | ScoredRun, *, draws: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two tests of single-label networks on the same videos.

    If a manifest of the tests has groups, the bootstrap draws the videos of a group together. `compare_multilabel_runs`
    compares multilabel networks.

    Args:
        run_a: run A, given as the run's folder, the folder of a test report, or a scores.npz file; or a `ScoredRun`
            from `read_scored_run`.
        run_b: run B, given in the same way.
        draws: number of bootstrap resamples, at least 100.
        seed: random seed of the bootstrap.

    Raises:
        FarfieldError: if a run has no scores or is not of a single-label network; if the runs have no videos in common,
            have different classes, or have different labels for a video; or if an option is out of range.
    """
    check_bootstrap(draws, seed)
    scored_a, scored_b = scored_run(run_a), scored_run(run_b)
    pair = paired_scores(scored_a, scored_b)
    check_single_label(scored_a, scored_b)
    units, classes = pair.units(), pair.a.targets.numpy()
    top1, top5 = ([hits(each, k) for each in (pair.a, pair.b)] for k in (1, 5))
    return Comparison(
        videos=len(classes),
        left_out=pair.left_out,
        right_in_a_only=int((top1[0] > top1[1]).sum()),
        right_in_b_only=int((top1[1] > top1[0]).sum()),
        top1=paired_bootstrap(*top1, units=units, draws=draws, seed=seed),
        top5=paired_bootstrap(*top5, units=units, draws=draws, seed=seed),
        mean_class_accuracy=paired_bootstrap(*top1, classes=classes, units=units, draws=draws, seed=seed),
        resampled=pair.resampled,
        units=number_of_units([units]),
    )


def check_bootstrap(draws: int, seed: int) -> None:
    """Check the options of a bootstrap.

    Raises:
        FarfieldError: if `draws` is below 100, or `seed` is negative.
    """
    if draws < 100:
        raise FarfieldError(f"draws is {draws}; it must be at least 100, to resolve the bounds of the interval.")
    if seed < 0:
        raise FarfieldError(f"seed is {seed}; it must be at least 0.")


def scored_run(run: str | Path | ScoredRun) -> ScoredRun:
    """Read the scores of a run, or return them if they have been read already."""
    return run if isinstance(run, ScoredRun) else read_scored_run(run)


_HOW_TO_COMPARE = {
    "multilabel": "Compare two multilabel networks with `farfield compare A B` (in Python, compare_multilabel_runs).",
    "multi_head": "Give the report folder of one head, such as RUN/test/verb.",
}


def check_single_label(*runs: ScoredRun) -> None:
    """Check that all runs are tests of single-label networks.

    Raises:
        FarfieldError: if the network of a run has another task.
    """
    for run in runs:
        if run.scores.task != "single_label":
            raise FarfieldError(
                f"{run.name} has scores of a '{run.scores.task}' network, but a 'single_label' network is needed. "
                + _HOW_TO_COMPARE[run.scores.task]
            )


def paired_scores(run_a: ScoredRun, run_b: ScoredRun) -> PairedScores:
    """Pair two runs' scores of the videos that both scored.

    The groups are those of run A or, if it has none, those of run B.

    Raises:
        FarfieldError: if the runs have no videos in common, or their tasks, classes or labels differ.
    """
    a, b = run_a.scores, run_b.scores
    if a.task != b.task:
        raise FarfieldError(
            f"{run_a.name} has the task {a.task!r}, and {run_b.name} has {b.task!r}. Give two tested runs of the same "
            "task."
        )
    if set(a.labels) != set(b.labels):
        differing = sorted(set(a.labels) ^ set(b.labels))
        raise FarfieldError(
            f"the runs have different classes (in one run only: {', '.join(differing[:5])}). Test both runs on "
            "the same manifest, with restrict_labels set to true."
        )
    names = a.names
    shared = _shared_rows(names, b.names)
    if len(shared) < min(len(a.paths), len(b.paths)):  # earlier versions stored the target of a link
        real_a, real_b = (replace(each, paths=[os.path.realpath(path) for path in each.paths]).names for each in (a, b))
        if len(set(real_a)) == len(real_a) and len(set(real_b)) == len(real_b):
            shared = _shared_rows(real_a, real_b)
    if not shared:
        raise FarfieldError(
            f"{run_a.name} and {run_b.name} have no video in common. For example, the first has {names[0]}, and the "
            f"second has {b.names[0]}. Test both on the same manifest."
        )
    in_a, in_b = (torch.tensor(rows) for rows in zip(*shared, strict=True))
    first, second = _rows(a, in_a), _rows(_with_classes(b, a.labels), in_b)
    if not torch.equal(first.targets, second.targets):
        row = int((first.target_matrix() != second.target_matrix()).any(1).nonzero()[0, 0])
        raise FarfieldError(
            f"{names[shared[row][0]]} has the label {first.label_texts()[row]!r} in one run and "
            f"{second.label_texts()[row]!r} in the other. Test both on the same manifest."
        )
    if a.views_aggregation != b.views_aggregation:
        log.warning(
            "%s was tested with views_aggregation %r, and %s with %r; this alone may cause the differences.",
            run_a.name, a.views_aggregation, run_b.name, b.views_aggregation,
        )  # fmt: skip
    second = replace(second, paths=first.paths, segments=first.segments)
    groups = None
    for run, rows in ((run_a, in_a), (run_b, in_b)):
        if groups is None and run.groups is not None:
            of_shared = [run.groups[row] for row in rows.tolist()]
            groups = of_shared if any(of_shared) else None
    return PairedScores(first, second, groups, len(a.paths) + len(b.paths) - 2 * len(shared))


def _rows(scores: Scores, rows: Tensor) -> Scores:
    return replace(
        scores,
        paths=[scores.paths[row] for row in rows.tolist()],
        targets=scores.targets[rows],
        views=scores.views[rows],
        segments=None if scores.segments is None else scores.segments[rows],
    )


def _with_classes(scores: Scores, labels: list[str]) -> Scores:
    """Return scores whose classes are in the order of `labels`."""
    place = {label: i for i, label in enumerate(scores.labels)}
    classes = torch.tensor([place[label] for label in labels])
    targets = classes.argsort()[scores.targets] if scores.task == "single_label" else scores.targets[:, classes]
    return replace(scores, labels=labels, targets=targets, views=scores.views[:, :, classes])


def _shared_rows(a: list[str], b: list[str]) -> list[tuple[int, int]]:
    rows = {name: row for row, name in enumerate(b)}
    return [(row, rows[name]) for row, name in enumerate(a) if name in rows]


def hits(scores: Scores, k: int) -> Float[np.ndarray, " n"]:
    """Return 1 for each video whose true class is among its k most probable classes, else 0."""
    best = most_probable(scores.probabilities, k)
    return (best == scores.targets[:, None]).any(1).double().numpy()
