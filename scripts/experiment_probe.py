"""Compare the heads of a probe with a network that is trained from nothing, over several splits of real clips.

python scripts/experiment_probe.py clips.csv --group person --out runs/probe_people --from_nothing small_set_tiny -- \
    --model.backbone c2d_efficientnet_lite0 --model.weights imagenet
python scripts/experiment_probe.py splits/1 splits/2 splits/3 --out runs/probe_splits -- --config my_probe.yaml

Sources are one manifest, of which each group is left out once as test videos, or folders with train.csv, val.csv and
test.csv, as `farfield data split` writes them. With groups, the validation videos of a fold are those of the next group
(`--val_groups`, of the next few), and all others train. `--group` is a column of the manifest, or a regular expression
for the file names. Options after `--` are those of `farfield fit` for the probe. Features are computed once for all
folds. `--from_nothing` is a config for training from nothing, tested with its best checkpoint.

If it was stopped, the same command goes on. Results are in OUT/heads.json: top-1 of all test videos with Wilson's
interval, and the mean over the folds with that of Student's t.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import estimate, fit_command, read_groups, read_report, run_commands
from tqdm import tqdm

from farfield.data.manifest import read_manifest, write_manifest
from farfield.errors import FarfieldError
from farfield.evaluation.metrics import wilson

FROM_NOTHING = "from nothing"


@dataclass(frozen=True)
class Fold:
    """A split into training, validation and test videos, and the classes of all splits: one may lack some."""

    name: str
    folder: Path
    labels: list[str]

    def options(self) -> dict[str, Any]:
        return {
            "data.train": (self.folder / "train.csv").absolute(),
            "data.val": (self.folder / "val.csv").absolute(),
            "data.labels": self.labels,
        }

    @property
    def test(self) -> Path:
        return (self.folder / "test.csv").absolute()


def read_splits(folders: Sequence[Path]) -> list[Fold]:
    """Find the manifests of splits.

    Raises:
        FarfieldError: for a folder without one of the manifests.
    """
    labels = {label for folder in folders for label in read_manifest(folder / "train.csv").labels}
    for folder in folders:
        for split in ("val", "test"):
            read_manifest(folder / f"{split}.csv")
    return [Fold(f"{place}_{folder.name}", folder, sorted(labels)) for place, folder in enumerate(folders)]


def leave_one_out(source: Path, root: str | None, pattern: str | None, val_groups: int, out: Path) -> list[Fold]:
    """Write the manifests of one fold for each group of a manifest.

    Raises:
        FarfieldError: for a video without a group, or too few groups.
    """
    manifest, groups = read_groups(source, root, pattern)
    names = sorted(groups)
    if len(names) < val_groups + 2:
        raise FarfieldError(
            f"{source} has {len(names)} groups; {val_groups + 2} at least are needed, to train, validate and test. "
            "Give another --group."
        )
    folds = []
    for place, name in enumerate(names):
        following = [names[(place + 1 + i) % len(names)] for i in range(val_groups)]
        parts = {"test": [name], "val": following, "train": [n for n in names if n not in (name, *following)]}
        folder = out / "manifests" / name
        folder.mkdir(parents=True, exist_ok=True)
        for split, of_split in parts.items():
            write_manifest(folder / f"{split}.csv", [record for each in of_split for record in groups[each]])
        folds.append(Fold(name, folder, manifest.labels))
    return folds


def run_probe(fold: Fold, heads: list[str], out: Path, words: list[str]) -> dict[str, dict[str, float]]:
    """Run a probe, unless it is finished; return each head's test."""
    folder = out / "probe" / fold.name
    finished = folder / "probe.json"
    if not finished.is_file():
        options = {
            **fold.options(),
            "probe.heads": heads,
            "probe.test": fold.test,
            "probe.cache": (out / "features").absolute(),
            "probe.curve_draws": 0,
            "trainer.enable_progress_bar": False,
        }
        run_commands([fit_command(folder, options, extra=words)], folder / "log.txt")
    return {name: each["test"] for name, each in json.loads(finished.read_text())["heads"].items()}


def run_from_nothing(fold: Fold, config: str, out: Path) -> dict[str, float]:
    """Train from nothing, unless it is finished; return the test."""
    folder = out / "from_nothing" / fold.name
    if read_report(folder) is None:
        options = {**fold.options(), "trainer.enable_progress_bar": False, "wandb.mode": "disabled"}
        best = folder / "checkpoints" / "best.ckpt"
        test = ["test", "--checkpoint", best, "--data.manifest", fold.test, "--data.num_workers=0"]
        fit = fit_command(folder, options, extra=["--config", config])
        run_commands([fit, test], folder / "log.txt")
    report = read_report(folder)
    assert report is not None
    return {**report["top1"], "videos": report["videos"]}


def collect(tests: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return top-1 of all videos and the mean over folds of each method, with intervals."""
    found = {}
    for name, folds in tests.items():
        videos = int(sum(each["videos"] for each in folds))
        right = round(sum(each["value"] * each["videos"] for each in folds))
        values = [each["value"] for each in folds]
        found[name] = {
            "folds": values,
            "videos": videos,
            "top1": vars(wilson(right, videos)),
            "mean_over_folds": vars(estimate(values, round(videos / len(folds)))),
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", nargs="+", type=Path, help="a manifest with groups, or folders of splits")
    parser.add_argument("--root", help="folder that the manifest's paths are relative to; default: its folder")
    parser.add_argument("--group", help="column of the manifest, or regular expression for file names")
    parser.add_argument("--val_groups", type=int, default=1, help="groups whose videos choose the configuration")
    parser.add_argument("--out", type=Path, required=True, help="folder for manifests, features and runs")
    parser.add_argument("--heads", nargs="+", default=["linear", "attentive", "non_local"])
    parser.add_argument("--from_nothing", help="config of the network that is trained from nothing; default: none")
    parser.add_argument("--json", action="store_true")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:at])
    tests: dict[str, list[dict[str, float]]] = defaultdict(list)
    try:
        if given.sources[0].is_dir():
            folds = read_splits(given.sources)
        else:
            folds = leave_one_out(given.sources[0], given.root, given.group, given.val_groups, given.out)
        for fold in tqdm(folds, unit="fold"):
            for name, test in run_probe(fold, given.heads, given.out, words[at + 1 :]).items():
                tests[name].append(test)
            if given.from_nothing:
                tests[FROM_NOTHING].append(run_from_nothing(fold, given.from_nothing, given.out))
    except (FarfieldError, RuntimeError) as error:
        print(f"experiment_probe.py: {error}", file=sys.stderr)
        return 2
    content = collect(tests)
    (given.out / "heads.json").write_text(json.dumps(content, indent=1) + "\n")
    if given.json:
        print(json.dumps(content, indent=1))
        return 0
    print(f"{len(folds)} folds, {next(iter(content.values()))['videos']} test videos; top-1, 95% intervals")
    for name, figures in content.items():
        shown = [
            f"{100 * each['value']:5.1f}% ({100 * each['low']:.1f} to {100 * each['high']:.1f})"
            for each in (figures["top1"], figures["mean_over_folds"])
        ]
        print(f"{name:<14} all videos {shown[0]}   mean over folds {shown[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
