"""Cross-validation: one run for each fold, trained on the others; or leave-one-group-out, one run for each group.

farfield data split clips.csv --folds 5 --group '^([a-z]+)_' --out folds
python scripts/cross_validate.py folds --out runs/folds -- --config my.yaml
python scripts/cross_validate.py clips.csv --group '^([a-z]+)_' --out runs/people -- --config my.yaml

The first argument is a folder of folds, or a manifest whose groups are left out one by one; `--group` is a column of
the manifest, or a regular expression for the file names, as in `farfield data split`. Options after `--` go to
`farfield fit`; training and test videos, and the run's folder, are set by this script. If it was stopped, the same
command resumes. Results are in OUT/folds.json. `farfield test splits OUT/fold_* --out OUT` averages all metrics over
the folds, and `farfield compare` then compares two networks over them.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import estimate, fit_and_test, read_groups, read_report
from tqdm import tqdm

from farfield.data.manifest import read_manifest, write_manifest
from farfield.errors import FarfieldError
from farfield.evaluation.comparison import check_single_label, hits
from farfield.evaluation.metrics import wilson
from farfield.evaluation.scored_run import read_scored_run


@dataclass(frozen=True)
class Fold:
    """Training and test manifest of one run, and the classes of all runs: a fold may lack some."""

    name: str
    train: Path
    test: Path
    labels: list[str]


def read_folds(folder: Path) -> list[Fold]:
    """Find the folds that `farfield data split --folds` has written.

    Raises:
        FarfieldError: for a folder without folds.
    """
    tests = sorted(folder.glob("fold_*/test.csv"), key=lambda path: int(path.parent.name.removeprefix("fold_")))
    if not tests:
        raise FarfieldError(
            f"{folder} holds no folds. Make them: farfield data split MANIFEST --folds 5 --out {folder}"
        )
    labels = sorted({label for path in tests for label in read_manifest(path).labels})
    return [Fold(path.parent.name, path.with_name("train.csv"), path, labels) for path in tests]


def leave_one_out(source: str, root: str | None, pattern: str | None, out: Path) -> list[Fold]:
    """Write the manifests of one fold for each group of a manifest.

    Raises:
        FarfieldError: for a pattern that finds nothing in a name, or fewer than two groups.
    """
    manifest, groups = read_groups(source, root, pattern)
    if len(groups) < 2:
        raise FarfieldError(f"{source} has {len(groups)} group; two at least are needed. Give another --group.")
    folds = []
    for group, rows in sorted(groups.items()):
        folder = out / group
        folder.mkdir(parents=True, exist_ok=True)
        others = [record for name, records in groups.items() if name != group for record in records]
        write_manifest(folder / "train.csv", others)
        write_manifest(folder / "test.csv", rows)
        folds.append(Fold(group, folder / "train.csv", folder / "test.csv", manifest.labels))
    return folds


def carry_out(fold: Fold, out: Path, words: list[str]) -> None:
    options: dict[str, Any] = {"data.train": fold.train.absolute(), "data.labels": fold.labels}
    options["trainer.enable_progress_bar"] = False
    (out / fold.name).mkdir(parents=True, exist_ok=True)
    fit_and_test(out / fold.name, options, fold.test.absolute(), extra=words)


def collect(runs: list[Fold], out: Path) -> dict[str, Any]:
    tested = {fold.name: read_scored_run(out / fold.name) for fold in runs}
    check_single_label(*tested.values())
    right = {name: hits(run.scores, 1) for name, run in tested.items()}
    folds = {name: float(each.mean()) for name, each in right.items()}
    videos = sum(map(len, right.values()))
    mean = estimate(list(folds.values()), round(videos / len(folds)))
    correct = sum(int(each.sum()) for each in right.values())
    return {
        "folds": folds,
        "groups": len(runs),
        "videos": videos,
        "right": correct,
        "top1": vars(wilson(correct, videos)),
        "mean_over_folds": vars(mean),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="folder of folds, or manifest of all videos")
    parser.add_argument(
        "--root", help="folder that the manifest's paths are relative to; default: the manifest's folder"
    )
    parser.add_argument("--group", help="column of the manifest, or regular expression for file names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one core each")
    parser.add_argument("--json", action="store_true")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:at])
    try:
        if Path(given.source).is_dir():
            folds = read_folds(Path(given.source))
        else:
            folds = leave_one_out(given.source, given.root, given.group, given.out)
        waiting = [fold for fold in folds if read_report(given.out / fold.name) is None]
        with ThreadPoolExecutor(given.jobs) as pool, tqdm(total=len(folds), initial=len(folds) - len(waiting)) as bar:
            for _ in pool.map(lambda fold: carry_out(fold, given.out, words[at + 1 :]), waiting):
                bar.update()
    except (FarfieldError, RuntimeError) as error:
        print(f"cross_validate.py: {error}", file=sys.stderr)
        return 2
    content = collect(folds, given.out)
    (given.out / "folds.json").write_text(json.dumps(content, indent=1) + "\n")
    if given.json:
        print(json.dumps(content, indent=1))
        return 0
    for group, value in content["folds"].items():
        print(f"{group:<20} {100 * value:5.1f}%")
    for name, figure in (("all videos", content["top1"]), ("mean over folds", content["mean_over_folds"])):
        interval = f"95% interval {100 * figure['low']:.1f} to {100 * figure['high']:.1f}"
        print(f"{name:<20} {100 * figure['value']:5.1f}%   {interval}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
