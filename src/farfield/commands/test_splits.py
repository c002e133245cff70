"""`farfield test splits`: average the test results of a data set's official splits."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farfield.evaluation.splits import SplitsResult


def splits(runs: list[str], *, out: str | None = None, draws: int = 10_000, seed: int = 0, json: bool = False) -> int:
    """Average the test results of a data set's splits. Each split has its own run, tested on the split's test list.

    The result is the mean of the splits' accuracies, as papers report it, not the accuracy on all videos pooled.
    Intervals are from a bootstrap over all splits together, because the same video may be in several test lists. The
    bootstrap draws groups of videos (source videos, films) if the manifests have groups, else videos. The intervals do
    not include the variation between trainings.

    Args:
        runs: one run for each split: the run's folder, the folder of its test report, or the file scores.npz in that
            folder.
        out: folder for splits.json and splits.md; null to write nothing. `farfield compare` compares two such folders.
        draws: number of bootstrap resamples, at least 100.
        seed: random seed of the bootstrap.
        json: print the metrics as JSON.
    """
    # Imported late, because it imports PyTorch: --help answers without it.
    from farfield.evaluation.splits import average_splits

    result = average_splits(runs, out, draws=draws, seed=seed)
    if json:
        print(json_format.dumps(result.to_dict(), indent=2))
        return 0
    print(_table(result))
    print(
        f"95% intervals from {result.draws} resamples of {result.units} {result.resampled}, drawn for all splits "
        "together"
    )
    if out is not None:
        print(f"report: {Path(out) / 'splits.md'}")
    return 0


def _table(result: SplitsResult) -> str:
    from farfield.reports.read_test_report import METRICS
    from farfield.reports.rendering import estimate

    content = result.to_dict()
    rows = [["", "videos", *METRICS.values()]]
    for split in content["splits"]:
        rows.append([split["run"], str(split["videos"]), *(estimate(split[name]) for name in METRICS)])
    means = [estimate(content["mean"][name]) for name in METRICS]
    rows.append([f"mean of {len(result.splits)} splits", "", *means])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
