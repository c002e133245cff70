"""Compare two tested multilabel networks, class by class, with the paired bootstrap.

Both networks are measured on the same resamples of the videos, or of the groups of videos if the manifest had them.
Resampling raises the average precision of both networks about equally (see `class_metrics`), so that most of this bias
cancels in the difference. The resampled differences are shifted so that their mean is the measured difference, which
removes the rest of the bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from farfield.errors import FarfieldError
from farfield.evaluation.class_metrics import Resampling, in_several_units, measure_ranking
from farfield.evaluation.comparison import check_bootstrap, paired_scores, scored_run
from farfield.evaluation.resampling import (
    MIN_UNITS,
    resample_weights,
    too_few_units,
    weighted_ranking_metrics,
)
from farfield.evaluation.scored_run import ScoredRun
from farfield.evaluation.scores_file import Scores
from farfield.evaluation.significance import Difference, difference_of_draws
from farfield.progress import ProgressBar

_HOW_TO_COMPARE = {
    "single_label": "Compare single-label networks with compare_runs.",
    "multi_head": "Compare the report folders of one head, such as RUN/test/verb, with compare_runs.",
}


@dataclass(frozen=True)
class ClassDifference:
    """Difference in average precision between run B and run A, for one class.

    Attributes:
        label: name of the class.
        videos: number of videos that have the class.
        average_precision: average precision of B minus that of A. Interval and p-value are NaN if all videos of the
            class are in one unit of the bootstrap (video or group). With many classes, some p-values are small by
            chance.
    """

    label: str
    videos: int
    average_precision: Difference


@dataclass(frozen=True)
class MultilabelComparison:
    """Comparison of run B with run A, on the videos that both runs scored.

    Attributes:
        videos: number of videos that both runs scored.
        left_out: number of videos that only one run scored.
        resampled: what the bootstrap draws, "groups" or "videos".
        units: number of these groups or videos. With fewer than `resampling.MIN_UNITS`, all intervals and p-values are
            NaN.
        mean_average_precision: mean average precision (mAP) of B minus that of A.
        classes: classes that at least one of the videos has, sorted by the gain of B over A, largest first.
    """

    videos: int
    left_out: int
    resampled: str
    units: int
    mean_average_precision: Difference
    classes: list[ClassDifference]

    @property
    def why_no_intervals(self) -> str | None:
        """Return why there are no intervals; None if there are intervals."""
        return too_few_units(self.units, self.resampled)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain types, for JSON. Undefined values are None."""
        return {
            **vars(self),
            "no_intervals": self.why_no_intervals,
            "mean_average_precision": self.mean_average_precision.to_dict(),
            "classes": [
                {"label": each.label, "videos": each.videos, "average_precision": each.average_precision.to_dict()}
                for each in self.classes
            ],
        }


def compare_multilabel_runs(
    run_a: str | Path | ScoredRun, run_b: str | Path | ScoredRun, *, draws: int = 10_000, seed: int = 0
) -> MultilabelComparison:
    """Compare two runs of multilabel networks that were tested on the same videos.

    Args:
        run_a: run A, given as the run's folder, the folder of a test report, or a scores.npz file; or a `ScoredRun`
            from `read_scored_run`.
        run_b: run B, given in the same way.
        draws: number of bootstrap resamples, at least 100.
        seed: random seed of the bootstrap.

    Raises:
        FarfieldError: if a run has no scores or is not of a multilabel network; if the runs have no videos in common,
            have different classes, or have different labels for a video; if none of the videos that both runs scored
            has a class; or if an option is out of range.
    """
    check_bootstrap(draws, seed)
    scored_a, scored_b = scored_run(run_a), scored_run(run_b)
    pair = paired_scores(scored_a, scored_b)
    a, b = pair.a, pair.b
    if a.task != "multilabel":
        raise FarfieldError(
            f"{scored_a.name} has scores of a '{a.task}' network, but a 'multilabel' network is needed. "
            + _HOW_TO_COMPARE[a.task]
        )
    targets = a.target_matrix()
    if not targets.any():
        raise FarfieldError(
            f"none of the videos that both runs scored ({len(targets)} in all) has a label, so there is no average "
            "precision. Test both on videos with labels."
        )
    units = pair.units()
    classes = targets.any(0).nonzero()[:, 0].tolist()
    alone = Resampling(units, draws=0)
    enough = alone.number_of_units >= MIN_UNITS
    drawn = _resampled_differences(a, b, classes, units, draws, seed) if enough else None
    of_a, of_b = (measure_ranking(each.probabilities, targets, alone).average_precision for each in (a, b))
    several = in_several_units(targets, alone).tolist()
    differences = [
        ClassDifference(
            a.labels[c],
            int(targets[:, c].sum()),
            _difference(
                of_a.per_class[c].value,
                of_b.per_class[c].value,
                None if drawn is None or not several[c] else drawn[:, i],
            ),
        )
        for i, c in enumerate(classes)
    ]
    means = None
    if drawn is not None and any(several):
        means = np.nanmean(drawn[~np.isnan(drawn).all(1)], axis=1)
    return MultilabelComparison(
        len(targets),
        pair.left_out,
        pair.resampled,
        alone.number_of_units,
        _difference(of_a.macro.value, of_b.macro.value, means),
        sorted(differences, key=lambda each: -each.average_precision.value),
    )


def _resampled_differences(
    a: Scores, b: Scores, classes: list[int], units: Int[Tensor, " n"], draws: int, seed: int
) -> Float[np.ndarray, "draws some"]:
    """Return the average precision of B minus that of A, on each resample (row) for each of `classes` (column).

    A value is NaN if the resample has no video of the class.
    """
    scores, targets = (a.probabilities, b.probabilities), a.target_matrix()
    found = np.empty((draws, len(classes)))
    begin = 0
    with ProgressBar(total=draws * len(classes), desc="intervals", leave=False, delay=2) as bar:
        for weights in resample_weights(units, draws=draws, seed=seed):
            columns = weights.shape[1]
            for i, c in enumerate(classes):
                of_a, of_b = (weighted_ranking_metrics(each[:, [c]], targets[:, [c]], weights)[0] for each in scores)
                found[begin : begin + columns, i] = (of_b - of_a).numpy()
                bar.update(columns)
            begin += columns
    return found


def _difference(a: float, b: float, drawn: Float[np.ndarray, " draws"] | None) -> Difference:
    if drawn is None:
        return difference_of_draws(a, b, None)
    defined = drawn[~np.isnan(drawn)]
    return difference_of_draws(a, b, defined - defined.mean() + (b - a))
