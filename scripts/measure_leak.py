"""How much too high is the test figure if clips of one source video are in training and in test?

python scripts/measure_leak.py --out runs/leak            three seeds, about half an hour on two cores
python scripts/measure_leak.py --out runs/leak --json

Generates source videos: one person before one background, doing one action. Several clips are cut from each. The same
network is trained on a split that ignores the sources and on one that keeps each source whole, both made by `farfield
data split`. Each is tested on its own test videos, and on videos of other people, which shows what it really does.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from runs import estimate
from tqdm import tqdm

from farfield import evaluate, train
from farfield.curation.split import split
from farfield.data.manifest import write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.synthetic.figures import FPS, LABELS, Scene, render_in
from farfield.video.writer import write_video

SPLITS = {"clips at random": None, "sources kept whole": r"^(.+)_part\d+"}
"""How the clips are split, and the pattern of the source in their names."""


def make_videos(folder: Path, *, sources: int, clips: int, seed: int) -> Path:
    """Write `clips` clips of each of `sources` generated source videos of each class; return their manifest."""
    records = []
    for number, label in enumerate(tqdm(LABELS * sources, f"videos in {folder.name}", leave=False)):
        rng = np.random.default_rng([seed, number])
        scene = Scene(rng)
        for part in range(clips):
            name = f"source{number:03}_part{part}.mp4"
            if not (folder / name).exists():
                folder.mkdir(parents=True, exist_ok=True)
                write_video(
                    folder / name, render_in(scene, label, np.random.default_rng([seed, number, part])), fps=FPS
                )
            records.append(VideoRecord(name, label))
    write_manifest(folder / "all.csv", records)
    return folder / "all.csv"


def train_and_test(name: str, seed: int, manifest: Path, others: Path, out: Path, options: dict[str, Any]) -> list[Any]:
    """Train on one split; return top-1 on its own test videos and on videos of other people."""
    made = split(manifest, out / "split", group=SPLITS[name], seed=seed, overwrite=True, fractions=[0.6, 0.2, 0.2])
    data = {"data.train": made.manifests["train"], "data.val": made.manifests["val"], "seed_everything": seed}
    trained = train("figures_tiny_nl2", {**data, "run_dir": out / "run", **options}, progress=False)
    assert trained.last_checkpoint is not None
    tests = (made.manifests["test"], others)
    return [evaluate(trained.last_checkpoint, test, progress=False, accelerator="cpu").metrics().top1 for test in tests]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for videos and runs")
    parser.add_argument("--sources", type=int, default=6, help="source videos of each class")
    parser.add_argument("--clips", type=int, default=5, help="clips of each source video")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    options = {"trainer.max_epochs": given.epochs, "trainer.accelerator": "cpu", "report.every_n_epochs": 0}
    try:
        manifest = make_videos(given.out / "videos", sources=given.sources, clips=given.clips, seed=0)
        others = make_videos(given.out / "other_people", sources=given.sources, clips=1, seed=1)
        rows = []
        for name in tqdm(SPLITS, "splits", leave=False):
            runs = [
                train_and_test(name, seed, manifest, others, given.out / f"{name.split()[0]}_{seed}", options)
                for seed in range(given.seeds)
            ]
            videos = [round(given.sources * len(LABELS) * given.clips * 0.2), given.sources * len(LABELS)]
            own, new = (estimate([run[i].value for run in runs], videos[i]) for i in range(2))
            rows.append({"split": name, "own_test": asdict(own), "other_people": asdict(new)})
    except FarfieldError as error:
        print(f"measure_leak.py: {error}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'split':<20}  {'own test videos':>22}  {'other people':>22}")
    for row in rows:
        shown = [
            f"{100 * e['value']:.1f}% [{100 * e['low']:.1f}, {100 * e['high']:.1f}]" for e in list(row.values())[1:]
        ]
        print(f"{row['split']:<20}  {shown[0]:>22}  {shown[1]:>22}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
