"""Read and write timelines.npz, the window scores and labelled segments of tested videos.

The file holds all that is needed to find segments again with other options and to evaluate them, without the network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from jaxtyping import Float

from farfield.atomic_write import atomic_write
from farfield.errors import FarfieldError, damage
from farfield.evaluation.video_timeline import TrueSegment, VideoTimeline
from farfield.task import Task

FILE = "timelines.npz"


@dataclass(frozen=True)
class WindowScores:
    """Window scores and labelled segments of one video.

    Attributes:
        path: path of the video, as written in the manifest.
        truth: labelled segments.
        windows: start and end of each window, in seconds.
        probabilities: probability of each class in each window.
    """

    path: str
    truth: list[TrueSegment]
    windows: Float[np.ndarray, "windows 2"]
    probabilities: Float[np.ndarray, "windows classes"]


@dataclass(frozen=True)
class TimelinesFile:
    """Content of timelines.npz: window scores and labelled segments of tested videos.

    Attributes:
        labels: class names.
        task: task of the network.
        videos: window scores of the videos.
        settings: options with which segments were found, in plain types.
        groups: group of each video (None for a video without a group), or None if no video has a group. Also None for a
            file of an earlier version, which did not store groups.
    """

    labels: list[str]
    task: Task
    videos: list[WindowScores]
    settings: dict[str, Any]
    groups: list[str | None] | None = None


def write_timelines(
    path: Path,
    labels: Sequence[str],
    task: Task,
    videos: Sequence[VideoTimeline],
    settings: dict[str, Any],
    *,
    groups: Sequence[str | None] | None = None,
) -> None:
    """Write the window scores and labelled segments of tested videos to timelines.npz, atomically.

    The windows of all videos are concatenated, and so are their segments. The arrays `window_counts` and `truth_counts`
    hold the number of windows and segments of each video.

    Args:
        path: the file to write.
        labels: class names.
        task: task of the network.
        videos: tested videos.
        settings: options with which segments were found, in plain types.
        groups: group of each video (None for a video without a group), or None if no video has a group.
    """
    names = ["" if group is None else group for group in groups or ()]
    position = {label: i for i, label in enumerate(labels)}
    truth = [each for video in videos for each in video.truth]
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            labels=np.array(labels, dtype=str),
            task=np.array(task),
            paths=np.array([video.path.encode("utf-8", "surrogateescape") for video in videos]),
            window_counts=np.array([len(video.windows) for video in videos]),
            windows=np.concatenate([video.windows for video in videos]),
            window_probabilities=np.concatenate([video.window_probabilities for video in videos]).astype(np.float32),
            truth_counts=np.array([len(video.truth) for video in videos]),
            truth=np.array([each[:2] for each in truth], dtype=np.float64).reshape(-1, 2),
            truth_classes=np.array([position[each.label] for each in truth], dtype=np.int64),
            settings=np.array(json.dumps(settings)),
            groups=np.array([name.encode("utf-8", "surrogateescape") for name in names], dtype=bytes),
        )


def read_timelines(path: str | Path) -> TimelinesFile:
    """Read the window scores and labelled segments of tested videos from timelines.npz.

    Raises:
        FarfieldError: if the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except FileNotFoundError as error:
        raise FarfieldError(f"there is no file {path}. Run `farfield test --timeline` to write {FILE}.") from error
    except Exception as error:  # numpy, zipfile and zlib raise many for damaged files; numpy advises to allow pickles
        raise FarfieldError(
            f"{path} is damaged, or not a file of tested timelines. Run `farfield test --timeline` to write a new one."
        ) from error
    try:
        return _parse(arrays)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FarfieldError(
            f"{path} is not a file of tested timelines: {damage(error)}. Run `farfield test --timeline` to write a new "
            "one."
        ) from error


def _parse(content: dict[str, np.ndarray]) -> TimelinesFile:
    """Convert the arrays of timelines.npz to the windows and segments of each video.

    Raises:
        ValueError, KeyError, IndexError: for arrays that do not fit together.
    """
    labels, paths, task = content["labels"].tolist(), content["paths"].tolist(), str(content["task"])
    if task not in get_args(Task):
        raise ValueError(f"its task {task!r} is unknown")
    if content["window_probabilities"].shape[1:] != (len(labels),):
        shape = content["window_probabilities"].shape
        raise ValueError(f"its window_probabilities have shape {shape}, which does not fit {len(labels)} classes")
    windows = _divide(content["windows"], content["window_counts"])
    probabilities = _divide(content["window_probabilities"], content["window_counts"])
    spans = _divide(content["truth"], content["truth_counts"])
    classes = _divide(content["truth_classes"], content["truth_counts"])
    videos = [
        WindowScores(
            name.decode("utf-8", "surrogateescape"),
            [TrueSegment(start, end, labels[c]) for (start, end), c in zip(times.tolist(), of.tolist(), strict=True)],
            bounds,
            scores,
        )
        for name, times, of, bounds, scores in zip(paths, spans, classes, windows, probabilities, strict=True)
    ]
    groups = None
    if len(content.get("groups", ())):
        groups = [each.decode("utf-8", "surrogateescape") or None for each in content["groups"].tolist()]
        if len(groups) != len(videos):
            raise ValueError(f"it has groups of {len(groups)} videos, but {len(videos)} videos")
    return TimelinesFile(labels, cast(Task, task), videos, json.loads(str(content["settings"])), groups)


def _divide(rows: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Split an array of the rows of all videos into one array for each video.

    Args:
        rows: rows of all videos, concatenated.
        counts: number of rows of each video.

    Raises:
        ValueError: if the counts do not add up to the number of rows.
    """
    if len(rows) != counts.sum():
        raise ValueError(f"an array has {len(rows)} rows, but its numbers of rows per video add up to {counts.sum()}")
    return np.split(rows, np.cumsum(counts)[:-1])
