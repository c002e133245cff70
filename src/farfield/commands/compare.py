"""`farfield compare`: compare two tested runs, video by video."""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farfield.evaluation.comparison import Comparison
    from farfield.evaluation.multilabel_comparison import MultilabelComparison
    from farfield.evaluation.significance import Difference
    from farfield.evaluation.split_comparison import SplitsComparison


def compare(run_a: str, run_b: str, *, draws: int = 10_000, seed: int = 0, json: bool = False) -> int:
    """Compare two tested runs by a paired bootstrap: print the differences B - A with 95% intervals.

    Both runs must have been tested (`farfield test`) on the same videos. Videos that only one of the tests could read
    are left out of the comparison. Single-label networks are compared by top-1, top-5 and mean class accuracy,
    multilabel networks by their mean average precision and the average precision of each class. For multi_head
    networks, give the report folders of one head, such as RUN/test/verb. If the manifest has groups, the bootstrap
    draws the videos of a group together. With fewer than 10 groups, or videos without groups, there are no intervals.
    Two folders that `farfield test splits` wrote are compared split by split, and by the means over the splits.

    Args:
        run_a: first run (A): the run's folder, the folder of its test report, the file scores.npz in that folder, or a
            folder that `farfield test splits` wrote.
        run_b: second run (B), given in the same way.
        draws: number of bootstrap resamples, at least 100.
        seed: random seed of the bootstrap.
        json: print JSON.
    """
    # Imported late, because they import PyTorch: --help answers without it.
    from farfield.evaluation.comparison import Comparison, compare_runs
    from farfield.evaluation.multilabel_comparison import MultilabelComparison, compare_multilabel_runs
    from farfield.evaluation.scored_run import read_scored_run
    from farfield.evaluation.split_comparison import compare_splits, splits_to_compare
    from farfield.reports.read_test_report import METRICS

    splits = splits_to_compare(run_a, run_b)
    found: Comparison | MultilabelComparison | SplitsComparison
    if splits is not None:
        found = compare_splits(*splits, draws=draws, seed=seed)
        content = {"draws": draws, **found.to_dict()}
    elif (run := read_scored_run(run_a)).scores.task == "multilabel":
        found = compare_multilabel_runs(run, run_b, draws=draws, seed=seed)
        content = {"draws": draws, **found.to_dict()}
    else:
        found = compare_runs(run, run_b, draws=draws, seed=seed)
        content = found.to_dict()
        content |= {"draws": draws, **{name: content.pop(name) for name in METRICS}}
    if json:
        print(json_format.dumps({"a": run_a, "b": run_b, **content}, indent=2))
        return 0
    print(f"A {run_a}\nB {run_b}")
    if isinstance(found, Comparison):
        print(_videos(found))
        _print_table({shown: getattr(found, name) for name, shown in METRICS.items()})
        print(_resampled(found))
        return 0
    if isinstance(found, MultilabelComparison):
        print(f"{found.videos} videos{_left_out(found)}")
        _print_table({"mean average precision": found.mean_average_precision})
        print("\naverage precision of each class, by the gain of B")
        _print_table({f"{each.label} ({each.videos})": each.average_precision for each in found.classes})
        print(_resampled(found))
        return 0
    for number, each in enumerate(found.splits, start=1):
        print(f"split {number}: {_videos(each)}")
    of_splits = {f"split {number}": each for number, each in enumerate(found.splits, start=1)}
    _print_table(
        {
            f"{shown}, {where}": getattr(each, name)
            for name, shown in METRICS.items()
            for where, each in {**of_splits, "mean": found}.items()
        }
    )
    print(_resampled(found, ", for all splits together"))
    return 0


def _videos(found: Comparison) -> str:
    told = f"{found.videos} videos; right in A only: {found.right_in_a_only}, in B only: {found.right_in_b_only}"
    return told + _left_out(found)


def _resampled(found: Comparison | MultilabelComparison | SplitsComparison, how: str = "") -> str:
    reason = found.why_no_intervals
    return f"resampled: {found.units} {found.resampled}{how}" if reason is None else f"no intervals: {reason}"


def _left_out(found: Comparison | MultilabelComparison) -> str:
    return f"; left out, because only one run scored them: {found.left_out}" if found.left_out else ""


def _print_table(rows: dict[str, Difference]) -> None:
    width = max(20, *map(len, rows))
    print(f"{'':<{width}} {'A':>7} {'B':>7} {'B - A':>7}   95% interval      p")
    for shown, each in rows.items():
        row = f"{shown:<{width}} {100 * each.a:6.2f}% {100 * each.b:6.2f}% {100 * each.value:+7.2f}"
        if each.low == each.low:  # without enough videos or groups, there is no interval
            interval = f"{100 * each.low:+.1f} to {100 * each.high:+.1f}"
            row += f"   {interval:<16} {each.p_value:.4f}"
        print(row)
