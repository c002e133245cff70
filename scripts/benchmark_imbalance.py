"""Compare losses on one rare class against all others, 19 to 1: plain cross entropy, class weights, and focal loss.

python scripts/benchmark_imbalance.py --out runs/imbalance                    9 runs
python scripts/benchmark_imbalance.py --out runs/imbalance --num_train 20 --num_test 20 --epochs 1 --seeds 0
                                                                              3 small runs: whether it runs

The videos are those of the generated *figures* task. The class --rare is to be found; all other classes become
"others", among them the rare class played backwards. In training and test, videos of the rare class are left out until
there are 19 others to one.

Every run calls the commands `farfield fit` and `farfield test`, and the last epoch is tested. If it was stopped, the
same command resumes. Average precision and recall at a precision of 0.9 are torchmetrics', by the probability of the
rare class. OUT/imbalance.json holds the results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from runs import fit_and_test, read_report
from torchmetrics.functional.classification import binary_average_precision, binary_recall_at_fixed_precision
from tqdm import tqdm

from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest
from farfield.evaluation import scores_file
from farfield.synthetic import figures
from farfield.synthetic.synthesize import synthesize

LABELS = ["others", "rare"]
OTHERS_TO_ONE = 19
PRECISION = 0.9
LOSSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "class weights": {"class_weights": "inverse"},
    "focal": {"focal_gamma": 2.0},
}
OPTIONS: dict[str, Any] = {
    "model.backbone": "tiny",
    "model.insert": {"res3": [1], "res4": [1]},
    "model.dropout": 0.0,
    "model.optimisation": {"lr": 0.2, "warmup_epochs": 1},
    "data.labels": LABELS,
    "data.batch_size": 16,
    "data.num_workers": 0,
    "data.augmentation": {"crop_scale": [0.7, 1.0]},
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": False,
    "wandb.mode": "disabled",
}


def one_against_all(source: Path, rare: str, to: Path) -> None:
    """Write a manifest with the labels "rare" and "others", of which the first are kept up to `OTHERS_TO_ONE`.

    Raises:
        FarfieldError: if the manifest does not have the class `rare`.
    """
    manifest = read_manifest(source)
    if rare not in manifest.labels:
        raise FarfieldError(f"--rare is {rare!r}, which is not a class of {source}. {nearest(rare, manifest.labels)}")
    is_rare = [record.label == rare for record in manifest]
    found, others = (
        [VideoRecord(str(manifest.path(i).absolute()), name) for i, each in enumerate(is_rare) if each == wanted]
        for name, wanted in (("rare", True), ("others", False))
    )
    write_manifest(to, [*found[: max(round(len(others) / OTHERS_TO_ONE), 1)], *others])


def measure(run: Path) -> dict[str, float]:
    """Compute average precision of the rare class, and its highest recall at a precision of at least `PRECISION`."""
    scores = scores_file.read_scores(run / "test" / scores_file.FILE)
    rare = scores.labels.index("rare")
    probabilities, targets = scores.probabilities[:, rare], (scores.targets == rare).long()
    recall, _ = binary_recall_at_fixed_precision(probabilities, targets, min_precision=PRECISION)
    return {"average_precision": float(binary_average_precision(probabilities, targets)), "recall": float(recall)}


def summarise(measured: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Compute mean and standard deviation of each metric over the seeds."""
    values = {name: [each[name] for each in measured] for name in measured[0]}
    return {
        name: {"mean": statistics.fmean(each), "sd": statistics.stdev(each) if len(each) > 1 else None, "runs": each}
        for name, each in values.items()
    }


def as_text(rows: dict[str, dict[str, Any]]) -> str:
    lines = [f"| loss | average precision | recall at precision {PRECISION} |", "|---|---|---|"]
    for name, row in rows.items():
        cells = [
            f"{row[metric]['mean']:.3f}" + ("" if row[metric]["sd"] is None else f" (sd {row[metric]['sd']:.3f})")
            for metric in ("average_precision", "recall")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(given: argparse.Namespace) -> dict[str, Any]:
    counts = {"num_train": given.num_train, "num_val": len(figures.LABELS), "num_test": given.num_test}
    source = synthesize("figures", given.out / "figures", **counts, progress=not given.json)
    train, test = given.out / "train.csv", given.out / "test.csv"
    one_against_all(source / "train.csv", given.rare, train)
    one_against_all(source / "test.csv", given.rare, test)
    runs = {
        (loss, seed): given.out / loss.replace(" ", "_") / f"seed{seed}" for loss, seed in product(LOSSES, given.seeds)
    }

    def carry_out(key: tuple[str, int]) -> None:
        if read_report(runs[key]) is None:
            loss, seed = key
            more = {"data.train": train, "trainer.max_epochs": given.epochs, "seed_everything": seed}
            fit_and_test(runs[key], OPTIONS | more | {"model.loss": LOSSES[loss]}, test)

    with ThreadPoolExecutor(given.jobs) as pool, tqdm(total=len(runs), unit="run") as bar:
        for _ in pool.map(carry_out, runs):
            bar.update()
    rows = {loss: summarise([measure(runs[loss, seed]) for seed in given.seeds]) for loss in LOSSES}
    videos = {path.stem: [record.label for record in read_manifest(path)] for path in (train, test)}
    numbers = {name: {label: labels.count(label) for label in LABELS} for name, labels in videos.items()}
    return {"rare": given.rare, "videos": numbers, "epochs": given.epochs, "seeds": given.seeds, "losses": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the videos and the runs")
    parser.add_argument("--rare", default=figures.LABELS[0], help="class of *figures* to find")
    parser.add_argument("--num_train", type=int, default=600, help="number of videos before some are left out")
    parser.add_argument("--num_test", type=int, default=1000, help="likewise, for the test")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs, with one core each")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        about = run(given)
    except (FarfieldError, RuntimeError) as error:
        print(f"benchmark_imbalance.py: {error}", file=sys.stderr)
        return 2
    (given.out / "imbalance.json").write_text(json.dumps(about, indent=1) + "\n")
    print(json.dumps(about, indent=1) if given.json else as_text(about["losses"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
