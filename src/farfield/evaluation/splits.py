"""Average the accuracies over the official splits of a data set, with 95% confidence intervals.

UCF101 and HMDB51 have three splits into training and test videos. One network is trained and tested for each split, and
papers report the mean of the three accuracies.

Intervals are percentiles of a bootstrap over the videos of all splits together, see `split_resampling`. They are
widened to contain Wilson's interval for independent videos (see `metrics`), which has a width above 0 even at
accuracies of 0 and 1. The number of videos n in Wilson's interval of the mean over S splits is

    n = (d / t) S^2 / sum_s (1 / n_s)

In this formula:
- n_s: number of tested videos of split s; for mean class accuracy, the number n_eff of `metrics` instead
- d: number of different tested videos of all splits
- t: sum of the splits' numbers of tested videos, so that a video in two splits counts twice

The formula follows from the variance: if all splits have the same expected accuracy p, the accuracy of split s has the
variance p (1 - p) / n_s. Then the mean over splits without common videos (d = t) has the variance p (1 - p) / n.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farfield.atomic_write import atomic_write
from farfield.errors import FarfieldError, damage
from farfield.evaluation.comparison import check_bootstrap, check_single_label, hits
from farfield.evaluation.group_intervals import widen
from farfield.evaluation.metrics import Estimate, measure, wilson
from farfield.evaluation.scored_run import ScoredRun, find_scores, read_scored_run
from farfield.evaluation.scores_file import Scores
from farfield.evaluation.split_resampling import SplitValues, number_of_units, resample_splits, shared_units
from farfield.reports.splits_report_markdown import render_splits_report
from farfield.untrusted_json import parse_json

FILE = "splits.json"
"""File in the output folder that lists the splits' runs and holds all accuracies."""

METRICS = {"top1": 1, "top5": 5, "mean_class_accuracy": 1}
"""Metrics, each with its k: a prediction is correct if the video's class is among the k most probable ones."""


@dataclass(frozen=True)
class SplitFigures:
    """Accuracies on the test list of one split.

    Attributes:
        run: the split's run, as given to `average_splits`.
        videos: number of tested videos.
        top1: top-1 accuracy.
        top5: top-5 accuracy.
        mean_class_accuracy: mean class accuracy.
    """

    run: str
    videos: int
    top1: Estimate
    top5: Estimate
    mean_class_accuracy: Estimate


@dataclass(frozen=True)
class SplitsResult:
    """Accuracies of each split, and their means.

    Attributes:
        splits: accuracies of each split.
        top1: mean of the splits' top-1 accuracies.
        top5: mean of the splits' top-5 accuracies.
        mean_class_accuracy: mean of the splits' mean class accuracies.
        videos: number of different videos that were tested.
        resampled: what the bootstrap draws, "groups" or "videos".
        units: number of these groups or videos.
        draws: number of resamples.
        seed: random seed of the bootstrap.
    """

    splits: list[SplitFigures]
    top1: Estimate
    top5: Estimate
    mean_class_accuracy: Estimate
    videos: int
    resampled: str
    units: int
    draws: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the content of splits.json, as plain Python types."""
        content = asdict(self)
        mean = {name: content.pop(name) for name in METRICS}
        return {"splits": content.pop("splits"), "mean": mean, "confidence": 0.95, **content}


def average_splits(
    runs: Sequence[str | Path], out: str | Path | None = None, *, draws: int = 10_000, seed: int = 0
) -> SplitsResult:
    """Average the test results of a data set's splits. Each split has its own run, tested on the split's test list.

    The result is the mean of the splits' accuracies, as papers report it, not the accuracy on all videos pooled.
    Intervals are from a bootstrap over all splits together, because the same video may be in several test lists. The
    bootstrap draws groups of videos (source videos, films) if the manifests of all splits have groups; otherwise it
    draws videos. The intervals do not include the variation between trainings.

    Args:
        runs: run of each split: the run's folder, the folder of its test report, or the file scores.npz in that folder.
        out: folder for splits.json and splits.md; None to write nothing. `farfield compare` compares two such folders.
        draws: number of bootstrap resamples, at least 100.
        seed: random seed of the bootstrap.

    Raises:
        FarfieldError: if fewer than two runs are given, or a run is given twice; if a run was not tested, or is not of
            a single-label network; if the tests differ in their classes, their numbers of views or how views are
            aggregated; if `draws` or `seed` is out of range; or if `out` is a file, is itself the folder of a test
            report, or cannot be written.
    """
    check_bootstrap(draws, seed)
    folder = None if out is None else _checked_out(Path(out))
    scored = read_splits(runs)
    units, by_group = shared_units([run.scores.paths for run in scored], [run.groups for run in scored])
    metrics = [metric_values([run.scores for run in scored], name) for name in METRICS]
    resampled = resample_splits(metrics, units, draws=draws, seed=seed)
    different = len({name for run in scored for name in run.scores.names})
    tested = [measure(run.scores.probabilities, run.scores.targets) for run in scored]
    figures: dict[str, list[Estimate]] = {}
    for name, splits, drawn in zip(METRICS, metrics, resampled, strict=True):
        alone: list[Estimate] = [getattr(each, name) for each in tested]
        figures[name] = [widen(*each) for each in zip([*alone, _mean(alone, splits, different)], drawn, strict=True)]
    result = SplitsResult(
        splits=[
            SplitFigures(run.name, len(run.scores.paths), **{name: each[place] for name, each in figures.items()})
            for place, run in enumerate(scored)
        ],
        **{name: each[-1] for name, each in figures.items()},
        videos=different,
        resampled="groups" if by_group else "videos",
        units=number_of_units(units),
        draws=draws,
        seed=seed,
    )
    if folder is not None:
        _write(result, scored, folder)
    return result


def metric_values(splits: Sequence[Scores], metric: str) -> list[SplitValues]:
    """Return, for each split, the value of each video: 1 if the video is classified correctly, else 0.

    Args:
        splits: scores of each split.
        metric: "top1", "top5" or "mean_class_accuracy". For "mean_class_accuracy", the values are those of "top1", and
            `SplitValues.classes` holds the class of each video.
    """
    by_class = metric == "mean_class_accuracy"
    return [SplitValues(hits(each, METRICS[metric]), each.targets.numpy() if by_class else None) for each in splits]


def read_splits(runs: Sequence[str | Path]) -> list[ScoredRun]:
    """Read the scores of a data set's splits, from one run for each split.

    Raises:
        FarfieldError: for fewer than two runs, a run that is given twice or was not tested, or tests that differ in
            their classes, in their number of views or in how views are aggregated.
    """
    if len(runs) < 2:
        number = "no run" if not runs else "only one run"
        raise FarfieldError(f"{number} is given; at least two are needed. Give the run of each split.")
    scored = [read_scored_run(run) for run in runs]
    check_single_label(*scored)
    first, seen = scored[0], {scored[0].file.resolve()}
    for run in scored[1:]:
        if run.file.resolve() in seen:
            raise FarfieldError(f"{run.name} is given twice. Give one run for each split.")
        seen.add(run.file.resolve())
        differing = sorted(set(first.scores.labels) ^ set(run.scores.labels))
        if differing:
            raise FarfieldError(
                f"{first.name} and {run.name} have different classes: {', '.join(differing[:5])} "
                f"{'is' if len(differing) == 1 else 'are'} in one of them only. Give splits of one data set; if a "
                "training list lacks a class, train with data.labels set to all classes."
            )
        views = [each.scores.views.shape[1] for each in (first, run)]
        if views[0] != views[1]:
            raise FarfieldError(
                f"{first.name} was tested with {views[0]} views per video and {run.name} with {views[1]}. Test all "
                "splits with the same num_clips and num_crops."
            )
        how = [each.scores.views_aggregation for each in (first, run)]
        if how[0] != how[1]:
            raise FarfieldError(
                f"{first.name} was tested with views_aggregation {how[0]!r} and {run.name} with {how[1]!r}. Test all "
                "splits with the same views_aggregation."
            )
    return scored


def runs_of_splits(folder: str | Path) -> list[Path] | None:
    """Find the run of each split in the splits.json that `average_splits` wrote.

    Args:
        folder: folder that contains splits.json, or splits.json itself.

    Returns:
        Path of the scores.npz file of each split's run; None if there is no splits.json.

    Raises:
        FarfieldError: for a damaged splits.json.
    """
    given = Path(folder)
    file = given if given.name == FILE else given / FILE
    if not file.is_file():
        return None
    try:
        return [file.parent / str(each["scores"]) for each in parse_json(file.read_bytes())["splits"]]
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise FarfieldError(
            f"{file} is not a file written by `farfield test splits`: {damage(error)}. Run the command again."
        ) from error


def _mean(alone: Sequence[Estimate], splits: Sequence[SplitValues], different: int) -> Estimate:
    """Return the mean accuracy of the splits, with Wilson's interval for independent videos.

    Args:
        alone: accuracy of each split.
        splits: value of each video, for each split.
        different: number of different videos in all splits.
    """
    n = len(splits) ** 2 / sum(1 / _effective_videos(each) for each in splits)
    n *= different / sum(len(each.values) for each in splits)
    return wilson(float(np.mean([each.value for each in alone])) * n, n)


def _effective_videos(split: SplitValues) -> float:
    """Return the number of videos for Wilson's interval of a split's metric.

    For top-1 and top-5 accuracy, it is the number of tested videos. For mean class accuracy, it is n_eff, see
    `metrics`.
    """
    if split.classes is None:
        return len(split.values)
    counts = np.unique(split.classes, return_counts=True)[1]
    return len(counts) ** 2 / float((1 / counts).sum())


def _checked_out(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise FarfieldError(f"out is {folder}, which is a file. Give a folder.")
    if find_scores(folder) is not None:
        raise FarfieldError(
            f"out is {folder}, which is the folder of a test report. Give another folder, for example one that "
            "contains the runs of all splits."
        )
    return folder


def _write(result: SplitsResult, scored: Sequence[ScoredRun], folder: Path) -> None:
    """Write splits.json and splits.md into `folder`.

    splits.json has the paths of the scores relative to `folder`, so that the folder and the runs can be moved together.
    """
    content = result.to_dict()
    for each, run in zip(content["splits"], scored, strict=True):
        each["scores"] = os.path.relpath(run.file.absolute(), folder.absolute())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        texts = {FILE: json.dumps(content, indent=2) + "\n", "splits.md": render_splits_report(content)}
        for name, text in texts.items():
            with atomic_write(folder / name) as partial:
                partial.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise FarfieldError(
            f"{folder} cannot be written: {error.strerror}. Give another output folder (out)."
        ) from error
