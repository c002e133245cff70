"""`farfield compare`: compare two tested runs, video by video."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict

from farfield.evaluation.comparison import compare_runs


def compare(run_a: str, run_b: str, *, draws: int = 10_000, seed: int = 0, json: bool = False) -> int:
    """Compare two tested runs by a paired bootstrap: print the differences B - A with 95% intervals.

    Both runs must have been tested (`farfield test`) on the same videos. Videos that only one of the tests could read
    are left out of the comparison.

    Args:
        run_a: run A: the run's folder, the folder of its test report, or the file scores.npz in that folder.
        run_b: run B, given in the same way.
        draws: number of bootstrap draws.
        seed: random seed of the bootstrap.
        json: print JSON.
    """
    found = compare_runs(run_a, run_b, draws=draws, seed=seed)
    if json:
        content = asdict(found)
        figures = {name: content.pop(name) for name in ("top1", "top5", "mean_class_accuracy")}
        print(json_format.dumps({"a": run_a, "b": run_b, **content, "draws": draws, **figures}, indent=2))
        return 0
    print(f"A {run_a}\nB {run_b}")
    print(
        f"{found.videos} videos; right in A only: {found.right_in_a_only}, in B only: {found.right_in_b_only}", end=""
    )
    print(f"; left out, because only one run scored them: {found.left_out}" if found.left_out else "")
    print(f"\n{'':<20} {'A':>7} {'B':>7} {'B - A':>7}   95% interval      p")
    for shown, each in (
        ("top-1", found.top1),
        ("top-5", found.top5),
        ("mean class accuracy", found.mean_class_accuracy),
    ):
        interval = f"{100 * each.low:+.1f} to {100 * each.high:+.1f}"
        print(
            f"{shown:<20} {100 * each.a:6.2f}% {100 * each.b:6.2f}% {100 * each.value:+7.2f}   {interval:<16} "
            f"{each.p_value:.4f}"
        )
    return 0
