"""`farfield compare`: two runs' test scores, video by video."""

from __future__ import annotations

import json as json_format
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from farfield.errors import FarfieldError
from farfield.evaluation.scores_file import FILE, Scores, read_scores
from farfield.evaluation.significance import Difference, paired_bootstrap


def compare(run_a: str, run_b: str, *, draws: int = 10_000, seed: int = 0, json: bool = False) -> int:
    """Says whether run B is better than run A, or luckier: differences with 95% intervals, by the paired bootstrap.

    Both must have been tested (`farfield test`) on the same videos; those that only one could read are left out.

    Args:
        run_a: a run's folder, the folder of a test's report, or its scores.npz.
        run_b: likewise.
        draws: of the bootstrap.
        seed: of its randomness.
        json: print JSON.
    """
    if draws < 100:
        raise FarfieldError(f"draws is {draws}; it must be at least 100, for the ends of an interval to be seen.")
    if seed < 0:
        raise FarfieldError(f"seed is {seed}; it must be at least 0.")
    a, b, left_out = _paired(_read(run_a), _read(run_b), run_a, run_b)
    targets = a.targets.numpy()
    figures = {
        "top1": _difference(a, b, 1, None, draws, seed),
        "top5": _difference(a, b, 5, None, draws, seed),
        "mean_class_accuracy": _difference(a, b, 1, targets, draws, seed),
    }
    only_a = int((_hits(a, 1) > _hits(b, 1)).sum())
    only_b = int((_hits(b, 1) > _hits(a, 1)).sum())
    content = {
        "a": run_a,
        "b": run_b,
        "videos": len(targets),
        "left_out": left_out,
        "right_in_a_only": only_a,
        "right_in_b_only": only_b,
        "draws": draws,
        **{name: asdict(each) for name, each in figures.items()},
    }
    if json:
        print(json_format.dumps(content, indent=2))
        return 0
    print(f"A {run_a}\nB {run_b}")
    print(f"{len(targets)} videos; right in A only: {only_a}, in B only: {only_b}", end="")
    print(f"; {left_out} that only one of them scored are left out" if left_out else "")
    print(f"\n{'':<20} {'A':>7} {'B':>7} {'B - A':>7}   95% interval      p")
    for name, shown in (("top1", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean class accuracy")):
        each = figures[name]
        interval = f"{100 * each.low:+.1f} to {100 * each.high:+.1f}"
        print(
            f"{shown:<20} {100 * each.a:6.2f}% {100 * each.b:6.2f}% {100 * each.value:+7.2f}   {interval:<16} "
            f"{each.p_value:.4f}"
        )
    return 0


def _read(run: str) -> Scores:
    given = Path(run)
    places = [given, given / FILE, given / "test" / FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FarfieldError(f"{run} holds no scores ({FILE}). Give a run that `farfield test` has tested.")
    scores = read_scores(found)
    if not scores.paths:
        raise FarfieldError(f"{found} holds no videos.")
    if len(set(scores.names)) < len(scores.names):
        raise FarfieldError(f"{found} holds a video twice. Leave it once in the manifest, and test again.")
    return scores


def _paired(a: Scores, b: Scores, name_a: str, name_b: str) -> tuple[Scores, Scores, int]:
    """The videos that both scored, in one order, with the classes in the order of the first."""
    if set(a.labels) != set(b.labels):
        differing = sorted(set(a.labels) ^ set(b.labels))
        raise FarfieldError(
            f"the runs know other classes: {', '.join(differing[:5])} {'is' if len(differing) == 1 else 'are'} in one "
            "of them only. Test both with --restrict_labels true on the same manifest."
        )
    names = a.names
    shared = _shared_rows(names, b.names)
    if len(shared) < min(len(a.paths), len(b.paths)):  # earlier versions put a link's target for its name
        real_a, real_b = (replace(each, paths=[os.path.realpath(path) for path in each.paths]).names for each in (a, b))
        if len(set(real_a)) == len(real_a) and len(set(real_b)) == len(real_b):
            shared = _shared_rows(real_a, real_b)
    if not shared:
        raise FarfieldError(
            f"{name_a} and {name_b} scored no video in common: one has {names[0]}, the other {b.names[0]}. Test both "
            "on the same manifest."
        )
    in_a, in_b = (torch.tensor(rows) for rows in zip(*shared, strict=True))
    classes = torch.tensor([b.labels.index(label) for label in a.labels])
    targets, theirs = a.targets[in_a], b.targets[in_b]
    if not torch.equal(classes[targets], theirs):
        row = int((classes[targets] != theirs).nonzero()[0, 0])
        raise FarfieldError(
            f"{names[shared[row][0]]} is {a.labels[int(targets[row])]!r} for one run and "
            f"{b.labels[int(theirs[row])]!r} for the other. Test both on the same manifest."
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
