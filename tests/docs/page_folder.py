"""Make the folder in which the commands of a page run: generated videos, manifests, a trained network and two runs."""

from __future__ import annotations

import os
import shutil
from itertools import chain
from pathlib import Path

import numpy as np

from docs.bash_blocks import write_client
from farfield import evaluate, train
from farfield.curation.index import index_videos
from farfield.data.manifest import read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.synthetic import untrimmed
from farfield.synthetic.figures import render
from farfield.synthetic.synthesize import synthesize
from farfield.synthetic.untrimmed_schedule import draw_schedule
from farfield.video.writer import write_video

CLASSES = ("sit_down", "stand_up", "raise_arms", "lower_arms")
UNTRIMMED = ".untrimmed"
"""Folder of a data set of the task *untrimmed* with two short videos in each split."""
UNTRIMMED_SEEDS = {"train": (24, 380), "val": (188, 111), "test": (116, 88)}
"""Seeds of schedules that are short; those of the training videos have all actions of the task."""
PREPARED = ".prepared"
"""Name of an empty file in each prepared run: a page's own `fit` may take the run's place."""
MY_YAML = """\
run_dir: runs/my
model:
  backbone: tiny
  backbone_options: {depth: 1}
  insert: {res4: [0]}
  clip: {num_frames: 4, frame_stride: 4, crop_px: 32, test_crop_px: 32, num_clips: 2, num_crops: 1}
data:
  train: train.csv
  val: val.csv
  batch_size: 4
  num_workers: 0
trainer:
  max_epochs: 1
  accelerator: cpu
wandb:
  mode: disabled
report:
  every_n_epochs: 0
"""


def make_shared(folder: Path) -> Path:
    """Make the files that every page finds in its folder, see `copy_to`."""
    folder.mkdir(parents=True)
    data = synthesize("figures", folder / "data/figures", num_train=40, num_val=10, num_test=10, progress=False)
    for split in ("train", "val", "test"):
        manifest = read_manifest(data / f"{split}.csv")
        for row, record in enumerate(manifest):
            if record.label in CLASSES:
                link = folder / "videos" / split / record.label / manifest.path(row).name
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(manifest.path(row), link)
        index_videos(folder / "videos" / split, folder / f"{split}.csv", num_workers=1, progress=False)
    make_untrimmed(folder / UNTRIMMED)
    shutil.copy(next((folder / "videos/test/sit_down").iterdir()), folder / "clip.mp4")
    rng = np.random.default_rng(1)
    frames = chain.from_iterable(render(label, rng) for label in (*CLASSES, *CLASSES))
    write_video(folder / "match.mp4", frames, fps=25)
    (folder / "my.yaml").write_text(MY_YAML)
    here = Path.cwd()
    os.chdir(folder)  # so that the runs' configs name the manifests by relative paths
    try:
        for name, seed in (("mine", 0), ("other", 1)):
            run = Path("runs", name)
            result = train("my.yaml", {"run_dir": run, "seed_everything": seed}, progress=False)
            assert result.best_checkpoint is not None
            evaluate(result.best_checkpoint, "test.csv", num_workers=0, out=run / "test", progress=False)
            (run / PREPARED).touch()
        shutil.copy("runs/mine/checkpoints/best.ckpt", "best.ckpt")
    finally:
        os.chdir(here)
    return folder


def make_untrimmed(folder: Path) -> None:
    """Make a data set as `farfield data synthesize untrimmed` does, but of the task's short videos only."""
    for split, seeds in UNTRIMMED_SEEDS.items():
        rows = []
        for number, seed in enumerate(seeds):
            schedule = draw_schedule(3, np.random.default_rng(seed))  # every fourth video of the task is short
            path = Path("videos", f"{split}_{number:05d}_actions.mp4")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            frames = untrimmed.render(schedule, np.random.default_rng(seed))
            write_video(folder / path, frames, fps=untrimmed.FPS, keyframe_every=2 * untrimmed.FPS)
            rows += [
                VideoRecord(str(path), action.name, action.start / untrimmed.FPS, action.end / untrimmed.FPS)
                for action in schedule.actions
            ]
        write_manifest(folder / f"{split}.csv", rows)


def copy_to(shared: Path, folder: Path, *, scripts: Path) -> Path:
    """Give a page its own copy of the shared files; videos are linked.

    Args:
        shared: folder of `make_shared`.
        folder: folder to make.
        scripts: folder of the repository's scripts.
    """

    def copy(source: str, target: str) -> str:
        if source.endswith(".mp4"):
            os.link(source, target)
            return target
        return shutil.copy2(source, target)

    shutil.copytree(shared, folder, copy_function=copy)
    client = write_client(folder)
    (folder / "scripts").mkdir()
    for script in scripts.iterdir():  # shell scripts are not run
        (folder / "scripts" / script.name).symlink_to(client if script.suffix == ".sh" else script)
    return folder
