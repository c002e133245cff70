"""Leave-one-group-out cross-validation: one run for each group of videos, tested on the group left out.

python scripts/cross_validate.py clips.csv --group '([a-z]+)_' --out runs/folds -- --config my.yaml
python scripts/cross_validate.py clips.csv --group '([a-z]+)_' --out runs/b -- --config my.yaml --model.weights a.ckpt

A video's group is the match of the pattern's first group in its file name, as the person in "daria_walk.avi". Options
after `--` go to `farfield fit`; training and test videos, and the run's folder, are set by this script. If it was
stopped, the same command resumes. Results are in OUT/folds.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runs import estimate, fit_and_test, read_report
from tqdm import tqdm

from farfield.data.manifest import VideoRecord, read_manifest, write_manifest
from farfield.errors import FarfieldError
from farfield.evaluation.metrics import wilson


def grouped(records: list[VideoRecord], pattern: str) -> dict[str, list[VideoRecord]]:
    """Group videos by the pattern's match in their file names.

    Raises:
        FarfieldError: for a pattern that finds nothing in one, or too few groups.
    """
    groups: dict[str, list[VideoRecord]] = defaultdict(list)
    for record in records:
        found = re.search(pattern, Path(record.path).name)
        if not found or not found.groups():
            raise FarfieldError(f"--group {pattern!r} finds no group in {Path(record.path).name}.")
        groups[found[1]].append(record)
    if len(groups) < 2:
        raise FarfieldError(f"--group {pattern!r} finds {len(groups)} group; two at least are needed.")
    return dict(sorted(groups.items()))


def carry_out(group: str, groups: dict[str, list[VideoRecord]], out: Path, words: list[str]) -> None:
    folder = out / group
    folder.mkdir(parents=True, exist_ok=True)
    others = [record for name, records in groups.items() if name != group for record in records]
    write_manifest(folder / "train.csv", others)
    write_manifest(folder / "test.csv", groups[group])
    labels = sorted({record.label for of_group in groups.values() for record in of_group})  # some groups may lack some
    options: dict[str, Any] = {"data.train": folder / "train.csv", "data.labels": labels}
    options["trainer.enable_progress_bar"] = False
    fit_and_test(folder, options, folder / "test.csv", extra=words)


def collect(groups: dict[str, list[VideoRecord]], out: Path) -> dict[str, Any]:
    reports = {group: read_report(out / group) for group in groups}
    folds = {group: report["top1"]["value"] for group, report in reports.items() if report is not None}
    videos = sum(report["videos"] for report in reports.values() if report is not None)
    right = sum(r["top1"]["value"] * r["videos"] for r in reports.values() if r is not None)
    mean = estimate(list(folds.values()), round(videos / len(folds)))
    pooled = wilson(round(right), videos)
    return {
        "folds": folds,
        "groups": len(groups),
        "videos": videos,
        "right": round(right),
        "top1": vars(pooled),
        "mean_over_folds": vars(mean),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifest", help="CSV of all videos")
    parser.add_argument(
        "--root", help="folder that the manifest's paths are relative to; default: the manifest's folder"
    )
    parser.add_argument("--group", required=True, help="regular expression with a group, for file names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one core each")
    parser.add_argument("--json", action="store_true")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:at])
    try:
        manifest = read_manifest(given.manifest, root=given.root)
        records = [VideoRecord(str(manifest.path(i).absolute()), manifest[i].label) for i in range(len(manifest))]
        groups = grouped(records, given.group)
        waiting = [group for group in groups if read_report(given.out / group) is None]
        with ThreadPoolExecutor(given.jobs) as pool, tqdm(total=len(groups), initial=len(groups) - len(waiting)) as bar:
            for _ in pool.map(lambda group: carry_out(group, groups, given.out, words[at + 1 :]), waiting):
                bar.update()
    except (FarfieldError, RuntimeError, re.error) as error:
        print(f"cross_validate.py: {error}", file=sys.stderr)
        return 2
    content = collect(groups, given.out)
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
