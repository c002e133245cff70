"""Write a synthetic task as H.264 files with manifests for training, validation and test."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from farfield.data.manifest import VideoRecord, write_manifest
from farfield.data.randomness import Purpose, generator
from farfield.errors import FarfieldError
from farfield.progress import ProgressBar
from farfield.synthetic import crowd, figures, recall
from farfield.video.writer import write_video

RECORD = "synthesis.json"
"""File that describes a finished data set. It is written last."""
SPLITS = ("train", "val", "test")
VERSION = 1
"""Incremented when a task's frames change, so that older data sets are recognised."""


@dataclass(frozen=True)
class Task:
    """A synthetic task.

    Attributes:
        labels: classes.
        render: renders the frames of a video of a label.
        fps: frame rate.
        choose_label: chooses the label of a video by its index; None for one class each in turn.
    """

    labels: list[str]
    render: Callable[[str, np.random.Generator], Iterator[UInt8[np.ndarray, "h w 3"]]]
    fps: int
    choose_label: Callable[[int, np.random.Generator], str] | None = None


TASKS: dict[str, Task] = {
    "figures": Task(figures.LABELS, figures.render, figures.FPS),
    "recall": Task(recall.LABELS, recall.render, recall.FPS),
    "recall_shape": Task(recall.LABELS, partial(recall.render, attribute="shape"), recall.FPS),
    "crowd": Task(crowd.LABELS, crowd.render, figures.FPS, crowd.choose_label),
}


def synthesize(
    task: Literal["figures", "recall", "recall_shape", "crowd"],
    out: str | Path,
    *,
    num_train: int = 600,
    num_val: int = 100,
    num_test: int = 200,
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a generated data set: H.264 videos with manifests train.csv, val.csv and test.csv.

    In figures, the class is the everyday action of a person. Actions come in time-reversed pairs, which only the order
    of frames distinguishes. In recall, the class says whether an early and a late cue have the same colour, which needs
    long-range dependencies. In recall_shape, the class says whether the two cues have the same shape. In crowd, up to
    three persons are seen, and a video has the labels of all actions that they perform, or none.

    Args:
        task: figures, recall, recall_shape or crowd.
        out: output folder. If it already has a finished data set with the same arguments, nothing is written.
        num_train: number of training videos; the classes of each split are balanced.
        num_val: number of validation videos.
        num_test: number of test videos.
        seed: seed of all videos. Equal seeds give the same frames on every machine.
        num_workers: number of processes; None for the number of cores.
        progress: show a progress bar on standard error.

    Returns:
        The output folder. Its synthesis.json has hashes of the frames.

    Raises:
        FarfieldError: if the folder has a different data set or other files, or a split has fewer videos than classes.
    """
    if task not in TASKS:
        raise FarfieldError(f"task is {task!r}. Known tasks: {', '.join(TASKS)}.")
    if seed < 0:
        raise FarfieldError(f"seed is {seed}; it must be at least 0.")
    counts = dict(zip(SPLITS, (num_train, num_val, num_test), strict=True))
    labels = TASKS[task].labels
    if min(counts.values()) < len(labels):
        raise FarfieldError(
            f"too few videos ({counts}): each split needs at least one video per class. Give num_train, num_val and "
            f"num_test at least {len(labels)}."
        )
    folder = Path(out)
    wanted = {
        "task": task,
        "version": VERSION,
        "seed": seed,
        **{f"num_{split}": count for split, count in counts.items()},
    }
    if _is_finished(folder, wanted):
        return folder
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    partial_file = folder / (RECORD + ".partial")  # marks the folder as ours if the run is interrupted
    partial_file.write_text(json.dumps(wanted) + "\n")
    jobs = [(task, seed, split, index, folder) for split in SPLITS for index in range(counts[split])]
    with ProcessPoolExecutor(num_workers or os.cpu_count()) as pool:
        done = pool.map(_write_one, jobs, chunksize=8)
        results = list(
            ProgressBar(done, total=len(jobs), desc=f"synthesize {task}", unit="video", disable=not progress)
        )
    hashes = {}
    for split in SPLITS:
        of_split = [
            (record, digest) for (_, _, s, _, _), (record, digest) in zip(jobs, results, strict=True) if s == split
        ]
        write_manifest(folder / f"{split}.csv", [record for record, _ in of_split])
        hashes[split] = hashlib.sha256("".join(digest for _, digest in of_split).encode()).hexdigest()
    partial_file.write_text(json.dumps(wanted | {"sha256_of_frames": hashes}, indent=2) + "\n")
    partial_file.replace(folder / RECORD)
    return folder


def _write_one(job: tuple[str, int, str, int, Path]) -> tuple[VideoRecord, str]:
    """Render and encode one video, in a worker process; return its manifest row and a hash of its frames."""
    name, seed, split, index, folder = job
    task = TASKS[name]
    rng = generator(Purpose.SYNTHESIS, seed, list(TASKS).index(name), SPLITS.index(split), index)
    label = task.choose_label(index, rng) if task.choose_label else task.labels[index % len(task.labels)]
    frames = list(task.render(label, rng))
    path = Path("videos", f"{split}_{index:05d}_{label.replace('|', '+') or 'none'}.mp4")
    write_video(folder / path, frames, fps=task.fps)
    height, width = frames[0].shape[:2]
    record = VideoRecord(
        path.as_posix(),
        label,
        num_frames=len(frames),
        fps=task.fps,
        width=width,
        height=height,
        duration_seconds=len(frames) / task.fps,
    )
    return record, hashlib.sha256(np.stack(frames).tobytes()).hexdigest()


def _is_finished(folder: Path, wanted: Mapping[str, object]) -> bool:
    """Return whether the wanted data set is finished; refuse a folder with a different data set or other files."""
    if (folder / RECORD).is_file():
        found = json.loads((folder / RECORD).read_text())
        if {key: found.get(key) for key in wanted} == wanted:
            return True
        raise FarfieldError(
            f"{folder} already has a different data set: {found}. The requested data set is {dict(wanted)}. Choose "
            "another folder, or delete this one."
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / (RECORD + ".partial")).is_file():
        raise FarfieldError(
            f"{folder} has files that do not belong to a generated data set. Choose an empty or a new folder."
        )
    return False
