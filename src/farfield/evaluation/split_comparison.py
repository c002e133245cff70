"""Compare two methods on the splits of a data set: split by split, and by the means over the splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from farfield.errors import FarfieldError
from farfield.evaluation.comparison import (
    Comparison,
    PairedScores,
    check_bootstrap,
    check_single_label,
    hits,
    paired_scores,
)
from farfield.evaluation.resampling import MIN_UNITS, too_few_units
from farfield.evaluation.scored_run import read_scored_run
from farfield.evaluation.significance import Difference, difference_of_draws
from farfield.evaluation.split_resampling import SplitValues, number_of_units, resample_splits, shared_units
from farfield.evaluation.splits import METRICS, metric_values, runs_of_splits


@dataclass(frozen=True)
class SplitsComparison:
    """Comparison of method B with method A over several splits.

    Attributes:
        splits: comparison of each split, on the videos that both runs of the split scored.
        top1: top-1 accuracy of B minus that of A, averaged over the splits.
        top5: top-5 accuracy of B minus that of A, averaged over the splits.
        mean_class_accuracy: mean class accuracy of B minus that of A, averaged over the splits.
        resampled: what the bootstrap draws, "groups" or "videos".
        units: number of these groups or videos in all splits together. With fewer than `resampling.MIN_UNITS`, all
            intervals and p-values are NaN. Those of one split are NaN if the split alone has fewer.
    """

    splits: list[Comparison]
    top1: Difference
    top5: Difference
    mean_class_accuracy: Difference
    resampled: str
    units: int

    @property
    def why_no_intervals(self) -> str | None:
        """Return why there are no intervals of the means; None if there are intervals."""
        return too_few_units(self.units, self.resampled)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain types, for JSON. Undefined values are None."""
        return {
            "splits": [each.to_dict() for each in self.splits],
            "resampled": self.resampled,
            "units": self.units,
            "no_intervals": self.why_no_intervals,
            "mean": {name: getattr(self, name).to_dict() for name in METRICS},
        }


def splits_to_compare(run_a: str | Path, run_b: str | Path) -> tuple[list[Path], list[Path]] | None:
    """Find the runs of each split in two folders that `average_splits` wrote.

    Returns:
        The scores.npz files of A and those of B, one per split; None if neither folder has a splits.json.

    Raises:
        FarfieldError: if only one of the two folders has a splits.json, or their numbers of splits differ.
    """
    a, b = runs_of_splits(run_a), runs_of_splits(run_b)
    if a is None and b is None:
        return None
    if a is None or b is None or len(a) != len(b):
        told = [
            f"{name} is {'a single run' if runs is None else f'a folder of {len(runs)} splits'}"
            for name, runs in ((run_a, a), (run_b, b))
        ]
        raise FarfieldError(
            f"{told[0]}, and {told[1]}. Give two tested runs, or two folders that `farfield test splits` wrote for the "
            "same splits."
        )
    return a, b


def compare_splits(
    runs_a: Sequence[str | Path], runs_b: Sequence[str | Path], *, draws: int = 10_000, seed: int = 0
) -> SplitsComparison:
    """Compare two methods, each given as one run per split. Both lists have the splits in the same order.

    The two runs of a split are compared on the videos that both scored. The bootstrap is paired, and draws groups or
    videos for all splits together, see `split_resampling`.

    Args:
        runs_a: for each split, the run of method A: the run's folder, the folder of the test report, or scores.npz.
        runs_b: for each split, the run of method B, likewise.
        draws: number of bootstrap resamples, at least 100.
        seed: random seed of the bootstrap.

    Raises:
        FarfieldError: if a run has no scores; if the network of a run is not single-label; if the two runs of a split
            have no videos in common, have different classes, or have different labels for a video; or if an option is
            out of range.
        ValueError: if `runs_a` and `runs_b` differ in length.
    """
    check_bootstrap(draws, seed)
    pairs = [_read_pair(*both) for both in zip(runs_a, runs_b, strict=True)]
    units, by_group = shared_units([pair.a.paths for pair in pairs], [pair.groups for pair in pairs])
    counts = [*(len(each.unique()) for each in units), number_of_units(units)]
    values = [
        [metric_values(of_run, metric) for of_run in ([pair.a for pair in pairs], [pair.b for pair in pairs])]
        for metric in METRICS
    ]
    differences = [[SplitValues(b.values - a.values, a.classes) for a, b in zip(*both, strict=True)] for both in values]
    found: dict[str, list[Difference]] = {}
    resampled = resample_splits(differences, units, draws=draws, seed=seed)
    for metric, both, rows in zip(METRICS, values, resampled, strict=True):
        of_splits = [[split.mean() for split in splits] for splits in both]
        a, b = ([*means, float(np.mean(means))] for means in of_splits)
        drawn = [_defined(row) if count >= MIN_UNITS else None for row, count in zip(rows, counts, strict=True)]
        found[metric] = [difference_of_draws(*each) for each in zip(a, b, drawn, strict=True)]
    told = "groups" if by_group else "videos"
    return SplitsComparison(
        [
            _comparison(pair, {metric: each[place] for metric, each in found.items()}, told, counts[place])
            for place, pair in enumerate(pairs)
        ],
        **{metric: each[-1] for metric, each in found.items()},
        resampled=told,
        units=counts[-1],
    )


def _read_pair(run_a: str | Path, run_b: str | Path) -> PairedScores:
    a, b = read_scored_run(run_a), read_scored_run(run_b)
    check_single_label(a, b)
    return paired_scores(a, b)


def _defined(drawn: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " some"]:
    """Drop NaN values. A value is NaN if the bootstrap draw contains no video of the split."""
    return drawn[~np.isnan(drawn)]


def _comparison(pair: PairedScores, figures: Mapping[str, Difference], resampled: str, units: int) -> Comparison:
    a, b = hits(pair.a, 1), hits(pair.b, 1)
    return Comparison(
        videos=len(pair.a.paths),
        left_out=pair.left_out,
        right_in_a_only=int((a > b).sum()),
        right_in_b_only=int((b > a).sum()),
        top1=figures["top1"],
        top5=figures["top5"],
        mean_class_accuracy=figures["mean_class_accuracy"],
        resampled=resampled,
        units=units,
    )
