"""Write a synthetic task as H.264 files with manifests for training, validation and test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from farfield.data.manifest import write_manifest
from farfield.data.randomness import Purpose, generator
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.parallel import end_with_parent, usable_cores, worker_context
from farfield.progress import ProgressBar
from farfield.synthetic import crowd, figures, recall, untrimmed
from farfield.synthetic.untrimmed_schedule import draw_schedule
from farfield.video.writer import write_video

RECORD = "synthesis.json"
"""File that describes a finished data set. It is written last."""
SPLITS = ("train", "val", "test")
VERSION = 1
"""Version of the rendered frames. It is incremented when frames change, so that older data sets are recognised."""


Frames = Iterator[UInt8[np.ndarray, "h w 3"]]


@dataclass(frozen=True)
class Video:
    """One generated video.

    Attributes:
        name: last part of the file name, which follows the split and the video's index.
        segments: one tuple for each row that the video has in the manifest: (label, first frame, frame after the last).
            Both frames are None if the row is about the whole video.
        frames: the frames; each is rendered when it is requested.
    """

    name: str
    segments: list[tuple[str, int | None, int | None]]
    frames: Frames


@dataclass(frozen=True)
class Task:
    """A synthetic task.

    Attributes:
        labels: classes.
        make: function that makes a video, given the video's index in its split and a random generator.
        fps: frame rate.
        num_videos: default numbers of training, validation and test videos.
        min_videos: minimum number of videos in a split; None for the number of classes.
        keyframe_every: maximum number of frames from one keyframe to the next.
    """

    labels: list[str]
    make: Callable[[int, np.random.Generator], Video]
    fps: int
    num_videos: tuple[int, int, int] = (600, 100, 200)
    min_videos: int | None = None
    keyframe_every: int = 250


def _each_in_turn(labels: list[str]) -> Callable[[int, np.random.Generator], str]:
    return lambda index, rng: labels[index % len(labels)]


def _make_trimmed(
    index: int,
    rng: np.random.Generator,
    *,
    choose_label: Callable[[int, np.random.Generator], str],
    render: Callable[[str, np.random.Generator], Frames],
) -> Video:
    """Make a video whose label applies to its whole length. In `crowd`, this label lists up to three actions."""
    label = choose_label(index, rng)
    return Video(label.replace("|", "+") or "none", [(label, None, None)], render(label, rng))


def _make_untrimmed(index: int, rng: np.random.Generator) -> Video:
    """Make a video with a segment for each action. A video without any action has one segment, without a label."""
    schedule = draw_schedule(index, rng)
    segments: list[tuple[str, int | None, int | None]]
    segments = [(action.name, action.start, action.end) for action in schedule.actions]
    return Video("actions" if segments else "none", segments or [("", None, None)], untrimmed.render(schedule, rng))


def _trimmed(labels: list[str], render: Callable[[str, np.random.Generator], Frames], fps: int) -> Task:
    return Task(labels, partial(_make_trimmed, choose_label=_each_in_turn(labels), render=render), fps)


TASKS: dict[str, Task] = {
    "figures": _trimmed(figures.LABELS, figures.render, figures.FPS),
    "recall": _trimmed(recall.LABELS, recall.render, recall.FPS),
    "recall_shape": _trimmed(recall.LABELS, partial(recall.render, attribute="shape"), recall.FPS),
    "crowd": Task(
        crowd.LABELS, partial(_make_trimmed, choose_label=crowd.choose_label, render=crowd.render), figures.FPS
    ),
    "untrimmed": Task(
        untrimmed.LABELS,
        _make_untrimmed,
        untrimmed.FPS,
        num_videos=(48, 8, 16),
        min_videos=2,
        keyframe_every=2 * untrimmed.FPS,  # as cameras do
    ),
}
"""Tasks by name. The seed of a video depends on the position of its task, so append new tasks at the end."""


def synthesize(
    task: Literal["figures", "recall", "recall_shape", "crowd", "untrimmed"],
    out: str | Path,
    *,
    num_train: int | None = None,
    num_val: int | None = None,
    num_test: int | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a generated data set: H.264 videos with manifests train.csv, val.csv and test.csv.

    In `figures`, a person performs an everyday action, which is the class. Actions come in time-reversed pairs, such
    as sitting down and standing up: only the order of frames distinguishes the two. In `recall`, the class says whether
    an early and a late cue have the same colour, which needs long-range dependencies. In `recall_shape`, the class says
    whether the two cues have the same shape. In `crowd`, a video shows at most three persons, and has the labels of all
    actions that they perform, or no label. In `untrimmed`, videos last one to three minutes, except that every fourth
    video is shorter. Segments show the actions of `figures`, with pauses in between.

    In the manifests of `untrimmed`, each segment has a row, and a video without actions has one row without a label. In
    the manifests of the other tasks, each video has one row.

    In `figures`, `recall` and `recall_shape`, the classes of a split have equal numbers of videos, give or take one.

    Args:
        task: "figures", "recall", "recall_shape", "crowd" or "untrimmed".
        out: output folder. If it already has a finished data set with the same arguments, nothing is written.
        num_train: number of training videos; None for 600, or 48 for `untrimmed`.
        num_val: number of validation videos; None for 100, or 8 for `untrimmed`.
        num_test: number of test videos; None for 200, or 16 for `untrimmed`.
        seed: seed of all videos. Equal seeds give the same frames on every machine.
        num_workers: number of processes; None for the number of cores.
        progress: show a progress bar on standard error.

    Returns:
        The output folder. Its synthesis.json has hashes of the frames.

    Raises:
        FarfieldError: if the task is unknown, or the seed is negative; if the folder has a different data set, or files
            that belong to no data set; or if a split has fewer videos than classes (`untrimmed`: fewer than two).
    """
    if task not in TASKS:
        raise FarfieldError(f"task is {task!r}. Known tasks: {', '.join(TASKS)}.")
    if seed < 0:
        raise FarfieldError(f"seed is {seed}; it must be at least 0.")
    given = zip((num_train, num_val, num_test), TASKS[task].num_videos, strict=True)
    counts = dict(zip(SPLITS, (usual if count is None else count for count, usual in given), strict=True))
    min_videos = TASKS[task].min_videos or len(TASKS[task].labels)
    if min(counts.values()) < min_videos:
        needed = "one video per class" if TASKS[task].min_videos is None else f"{min_videos} videos"
        raise FarfieldError(
            f"too few videos ({counts}): each split needs at least {needed}. Set num_train, num_val and num_test to "
            f"{min_videos} or more."
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
    with ProcessPoolExecutor(
        num_workers or usable_cores(), mp_context=worker_context(__name__), initializer=end_with_parent
    ) as pool:
        done = pool.map(_write_one, jobs, chunksize=1)
        results = list(
            ProgressBar(done, total=len(jobs), desc=f"synthesize {task}", unit="video", disable=not progress)
        )
    hashes = {}
    for split in SPLITS:
        of_split = [made for (_, _, s, _, _), made in zip(jobs, results, strict=True) if s == split]
        write_manifest(folder / f"{split}.csv", [record for records, _ in of_split for record in records])
        hashes[split] = hashlib.sha256("".join(digest for _, digest in of_split).encode()).hexdigest()
    partial_file.write_text(json.dumps(wanted | {"sha256_of_frames": hashes}, indent=2) + "\n")
    partial_file.replace(folder / RECORD)
    return folder


def _write_one(job: tuple[str, int, str, int, Path]) -> tuple[list[VideoRecord], str]:
    """Render and encode one video, in a worker process; return its manifest rows and a hash of its frames.

    `job` is (name of the task, seed, split, index of the video in the split, output folder).
    """
    name, seed, split, index, folder = job
    task = TASKS[name]
    rng = generator(Purpose.SYNTHESIS, seed, list(TASKS).index(name), SPLITS.index(split), index)
    video = task.make(index, rng)
    path = Path("videos", f"{split}_{index:05d}_{video.name}.mp4")
    frames = _Measured(video.frames)
    write_video(folder / path, frames, fps=task.fps, keyframe_every=task.keyframe_every)
    records = [
        VideoRecord(
            path.as_posix(),
            label,
            start_seconds=None if start is None else start / task.fps,
            end_seconds=None if end is None else end / task.fps,
            num_frames=frames.count,
            fps=task.fps,
            width=frames.width,
            height=frames.height,
            duration_seconds=frames.count / task.fps,
        )
        for label, start, end in video.segments
    ]
    return records, frames.digest.hexdigest()


class _Measured:
    """Iterable that yields the given frames, and records their number, their size, and one hash of all frames."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.count = self.width = self.height = 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> Frames:
        for frame in self.frames:
            self.count += 1
            self.height, self.width = frame.shape[:2]
            self.digest.update(np.ascontiguousarray(frame).tobytes())
            yield frame


def _is_finished(folder: Path, wanted: Mapping[str, object]) -> bool:
    """Return whether the folder has a finished data set that was made with the arguments `wanted`.

    Raises:
        FarfieldError: if the folder has a data set that was made with other arguments, or if it has files that belong
            to no data set.
    """
    if (folder / RECORD).is_file():
        found = json.loads((folder / RECORD).read_text())
        if {key: found.get(key) for key in wanted} == wanted:
            return True
        changed = "; ".join(
            f"{key} was {found.get(key)}, now {value}" for key, value in wanted.items() if found.get(key) != value
        )
        raise FarfieldError(
            f"{folder} already has a different data set: {changed}. Choose another folder, or delete this one."
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / (RECORD + ".partial")).is_file():
        raise FarfieldError(
            f"{folder} has files that do not belong to a generated data set. Choose an empty or a new folder."
        )
    return False
