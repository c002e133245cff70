"""`farfield test splits`: average the tests of a data set's official splits."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

from farfield.evaluation.splits import SplitsResult, average_splits
from farfield.options.parser import runs as runs_function
from farfield.reports.read_test_report import METRICS
from farfield.reports.rendering import estimate


@runs_function(average_splits)
def splits(*, out: str | None = None, json: bool = False, **options: Any) -> int:
    """Average the test results of a data set's official splits, and print the means.

    Args:
        json: print the metrics as JSON.
    """
    result = average_splits(out=out, **options)
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
