"""Compare training on untrimmed videos, with negatives, with training on their labelled segments alone.

python scripts/benchmark_untrimmed.py --out runs/untrimmed_benchmark          6 runs
python scripts/benchmark_untrimmed.py --out runs/untrimmed_benchmark --num_train 3 --num_val 2 --num_test 2 --epochs 1 \
    --seeds 0                                                                 2 small runs: whether it runs

The videos are those of the generated *untrimmed* task: minutes long, with actions, pauses, overlaps and distractors.
Both networks are those of the recipe untrimmed_tiny_nl2, and train for as many steps:

- untrimmed: as the recipe trains, on clips inside segments, across their borders, and outside of all (negatives);
- trimmed: each labelled segment is a video of its own, from which clips are drawn; nothing else is seen.

Every run calls the commands `farfield fit` and `farfield test --timeline`, and the best epoch of its own validation is
tested. If it was stopped, the same command resumes. OUT/untrimmed.json holds the results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from runs import fit_command, read_report, run_commands
from tqdm import tqdm

from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.untrimmed import NEGATIVE_SHARE
from farfield.errors import FarfieldError
from farfield.recipes import find_config
from farfield.synthetic.synthesize import synthesize

RECIPE = "untrimmed_tiny_nl2"
TIMELINE = ["--timeline", "--hop_seconds=0.4", "--windows_aggregation=nearest", "--threshold=0.3"]
"""Options of the test, as in the recipe's header."""
TRAININGS = ("untrimmed", "trimmed")
TIOU = 0.5
OPTIONS: dict[str, Any] = {
    "data.num_workers": 0,
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": False,
    "wandb.mode": "disabled",
}


def recipe_epochs() -> int:
    """Return the recipe's number of epochs."""
    return int(yaml.safe_load(Path(find_config(RECIPE)).read_text())["trainer"]["max_epochs"])


def keep_segments(source: Path, to: Path) -> None:
    """Write a manifest of the labelled segments of another, each a row, without the videos in which nothing happens."""
    to.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(to, [record for record in read_manifest(source) if record.labels])


def options_of(training: str, source: Path, out: Path, epochs: int) -> dict[str, Any]:
    """Return the options of `farfield fit` that differ from the recipe's."""
    if training == "untrimmed":
        return {
            "data.train": source / "train.csv",
            "data.val": source / "val.csv",
            "trainer.max_epochs": epochs,
        }
    segments = {split: out / f"{split}_segments.csv" for split in ("train", "val")}
    for split, path in segments.items():
        keep_segments(source / f"{split}.csv", path)
    return {
        "data.train": segments["train"],
        "data.val": segments["val"],
        "data.root": source,
        "data.untrimmed": False,
        "trainer.max_epochs": round(epochs / (1 - NEGATIVE_SHARE)),  # as many steps, of epochs without negatives
    }


def carry_out(folder: Path, options: dict[str, Any], test: Path, num_threads: int) -> None:
    """Train and test one network, unless it has been done, and write the seconds of training to folder/seconds.txt."""
    if read_report(folder) is not None:
        return
    start = time.perf_counter()
    run_commands(
        [fit_command(folder, options, extra=["--config", RECIPE])], folder / "fit.txt", num_threads=num_threads
    )
    seconds = folder / "seconds.txt"
    if not seconds.exists():  # it does if only the test is repeated
        seconds.write_text(f"{time.perf_counter() - start:.1f}\n")
    words = ["test", "--checkpoint", folder / "checkpoints" / "best.ckpt", "--data.manifest", test, *TIMELINE]
    words += ["--accelerator=cpu", "--out", folder / "test"]
    run_commands([words], folder / "test.txt", num_threads=num_threads)


def measure(folder: Path) -> dict[str, float]:
    """Return the metrics of a tested run."""
    report = read_report(folder)
    assert report is not None
    detection = report["average_precision"]["activitynet"]
    at_tiou = {each["tiou"]: each["value"] for each in detection["at_tiou"]}
    return {
        "map_at_50": at_tiou[TIOU],
        "map": detection["mean"]["value"],
        "false_alarms_per_hour": report["false_alarms_per_hour"],
        "seconds": float((folder / "seconds.txt").read_text()),
    }


def summarise(measured: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Compute mean and standard deviation of each metric over the seeds."""
    values = {name: [each[name] for each in measured] for name in measured[0]}
    return {
        name: {"mean": statistics.fmean(each), "sd": statistics.stdev(each) if len(each) > 1 else None, "runs": each}
        for name, each in values.items()
    }


def as_text(rows: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table."""
    columns = {"map_at_50": (f"mAP at tIoU {TIOU}", 3), "map": ("mAP, tIoU 0.5 to 0.95", 3)}
    columns |= {"false_alarms_per_hour": ("false alarms an hour", 0), "seconds": ("seconds of training", 0)}
    lines = [f"| training | {' | '.join(shown for shown, _ in columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [
            f"{row[metric]['mean']:.{digits}f}"
            + ("" if row[metric]["sd"] is None else f" (sd {row[metric]['sd']:.{digits}f})")
            for metric, (_, digits) in columns.items()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Make the videos, do all runs, and return the content of untrimmed.json."""
    counts = {f"num_{split}": getattr(given, f"num_{split}") for split in ("train", "val", "test")}
    source = synthesize("untrimmed", given.out / "videos", **counts, progress=not given.json)
    runs = {key: given.out / key[0] / f"seed{key[1]}" for key in product(TRAININGS, given.seeds)}
    for (training, seed), folder in tqdm(runs.items(), unit="run", disable=given.json):
        options = OPTIONS | options_of(training, source, given.out, given.epochs) | {"seed_everything": seed}
        carry_out(folder, options, source / "test.csv", given.threads)
    rows = {name: summarise([measure(runs[name, seed]) for seed in given.seeds]) for name in TRAININGS}
    return {"epochs": given.epochs, "seeds": given.seeds, "threads": given.threads, "trainings": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the videos and the runs")
    parser.add_argument("--num_train", type=int, help="number of training videos; the task's own by default")
    parser.add_argument("--num_val", type=int, help="likewise, for validation")
    parser.add_argument("--num_test", type=int, help="likewise, for the test")
    parser.add_argument("--epochs", type=int, default=recipe_epochs(), help="epochs of the untrimmed training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2, help="threads of a run; one runs at a time")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        about = run(given)
    except (FarfieldError, RuntimeError) as error:
        print(f"benchmark_untrimmed.py: {error}", file=sys.stderr)
        return 2
    (given.out / "untrimmed.json").write_text(json.dumps(about, indent=1) + "\n")
    print(json.dumps(about, indent=1) if given.json else as_text(about["trainings"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
