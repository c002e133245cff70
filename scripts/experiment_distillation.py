"""Distillation at small scale: what a teacher gives a small student that has few labelled videos.

python scripts/experiment_distillation.py --out runs/distillation            25 runs of one to two minutes on one core
python scripts/experiment_distillation.py --out runs/distillation --videos 5

The data is the generated *figures* set. The teacher (`tiny` with two non-local blocks, 56 pixels) learns from all 600
labelled training videos. The student (`tiny` of half the width, a quarter of the parameters, 40 pixels) has the labels
of 5, 20 or 60 videos of each class: "labels" learns from these alone, "teacher" also from the teacher, on these and on
all other videos without their labels, and "teacher_labelled" from the teacher on the labelled videos only. All take the
same number of steps from the same initial weights.

A run that was stopped resumes, finished runs are read. distillation.json in OUT is rewritten after each run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from runs import ON_CPU, fit_and_test, read_report
from tqdm import tqdm

from farfield.data.manifest import read_manifest, write_manifest
from farfield.synthetic.figures import LABELS
from farfield.synthetic.synthesize import synthesize

VIDEOS: dict[str, Any] = {"num_train": 600, "num_val": 10, "num_test": 300}
BATCH = 16
OPTIONS: dict[str, Any] = {
    **ON_CPU,
    "model.backbone": "tiny",
    "model.dropout": 0.0,
    "model.optimisation.optimizer": "adamw",
    "model.optimisation.weight_decay": 0.05,
    "model.optimisation.lr": 0.002,
    "data.batch_size": BATCH,
    "data.augmentation": {"crop_scale": [0.7, 1.0]},
}
TEACHER: dict[str, Any] = {"model.insert": {"res3": [1], "res4": [1]}, "model.optimisation.warmup_epochs": 1}
STUDENT: dict[str, Any] = {"model.backbone_options": {"width": 0.5}, "model.clip": {"crop_px": 40}}
ARMS = ("labels", "teacher_labelled", "teacher")


def split_labels(train: Path, folder: Path, per_class: int, seed: int) -> tuple[Path, Path | None]:
    """Write labelled.csv with `per_class` random videos of each class, and unlabelled.csv with the paths of the others.

    Returns:
        The two files; None for the second if no videos are left.
    """
    manifest = read_manifest(train)
    labels = np.array([record.label for record in manifest])
    order = np.random.default_rng(seed).permutation(len(manifest))
    chosen = {int(row) for label in manifest.labels for row in order[labels[order] == label][:per_class]}
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "labelled.csv", [manifest[row] for row in sorted(chosen)])
    others = [manifest[row].path for row in range(len(manifest)) if row not in chosen]
    if not others:
        return folder / "labelled.csv", None
    (folder / "unlabelled.csv").write_text("\n".join(["path", *others]) + "\n")
    return folder / "labelled.csv", folder / "unlabelled.csv"


def student_options(
    data: Path, folder: Path, per_class: int, seed: int, arm: str, teacher: Path, epochs: int
) -> dict[str, Any]:
    """Return the options of a student's run. All arms have the steps of `epochs` epochs of all training videos."""
    labelled, unlabelled = split_labels(data / "train.csv", folder, per_class, seed)
    steps = epochs * (VIDEOS["num_train"] // BATCH)
    options = OPTIONS | STUDENT | {"seed_everything": seed, "data.train": labelled, "data.root": data}
    options |= {"trainer.max_steps": steps, "trainer.max_epochs": -1}
    if arm != "labels":
        options |= {"model.teacher": teacher}
    if arm == "teacher" and unlabelled is not None:
        options |= {"data.unlabelled": unlabelled}
    return options


def top1(folder: Path) -> float | None:
    """Return the accuracy of a run on the test videos; None if it has not finished."""
    report = read_report(folder)
    return None if report is None else report["top1"]["value"]


def summary(found: dict[str, list[float]]) -> dict[str, Any]:
    """Return mean and standard deviation of each arm, and of the gain of "teacher" over "labels", in percent."""
    values = dict(found)
    plain, taught = found.get("labels", []), found.get("teacher", [])
    if len(plain) == len(taught):
        values["gain"] = [b - a for a, b in zip(plain, taught, strict=True)]
    return {
        name: {
            "runs": [round(100 * value, 2) for value in each],
            "mean": round(100 * statistics.fmean(each), 2),
            "sd": round(100 * statistics.stdev(each), 2) if len(each) > 1 else None,
        }
        for name, each in values.items()
        if each
    }


def table(result: dict[str, Any]) -> str:
    """Return the result as text: a line for each number of labelled videos."""

    def cell(about: dict[str, Any] | None) -> str:
        if about is None:
            return "-"
        return f"{about['mean']:.1f}" + ("" if about["sd"] is None else f" +- {about['sd']:.1f}")

    columns = (*ARMS, "gain")
    lines = [
        f"teacher: {result['teacher']:.1f}% top-1",
        f"{'videos a class':<16}" + "".join(f"{c:>18}" for c in columns),
    ]
    for count, arms in result["students"].items():
        lines.append(f"{count:<16}" + "".join(f"{cell(arms.get(name)):>18}" for name in columns))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--videos", type=int, nargs="+", default=[5, 20, 60], help="labelled videos of each class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--epochs", type=int, default=12, help="epochs of the teacher, and length of a student's run")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out.resolve()
    data = out / "data"
    if not (data / "test.csv").is_file():
        synthesize("figures", str(data), **VIDEOS)
    options = OPTIONS | TEACHER | {"data.train": data / "train.csv", "trainer.max_epochs": chosen.epochs}
    if top1(out / "teacher") is None:
        fit_and_test(out / "teacher", options, data / "test.csv")
    teacher = out / "teacher" / "checkpoints" / "last.ckpt"
    result: dict[str, Any] = {"teacher": 100 * (top1(out / "teacher") or 0), "epochs": chosen.epochs, "students": {}}
    runs = [
        (count, seed, arm)
        for count in chosen.videos
        for seed in chosen.seeds
        for arm in chosen.arms
        if arm != "teacher_labelled" or count * len(LABELS) < VIDEOS["num_train"]  # else the same as "teacher"
    ]
    found: dict[int, dict[str, list[float]]] = {}
    for count, seed, arm in tqdm(runs, desc="runs"):
        folder = out / f"{count}_a_class" / f"seed{seed}"
        if top1(folder / arm) is None:
            of_run = student_options(data, folder, count, seed, arm, teacher, chosen.epochs)
            fit_and_test(folder / arm, of_run, data / "test.csv")
        found.setdefault(count, {}).setdefault(arm, []).append(top1(folder / arm) or 0.0)
        result["students"] = {str(each): summary(arms) for each, arms in found.items()}
        (out / "distillation.json").write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
