"""Find windows for which a network predicted a class wrongly; write them to a CSV file, to train on them more often."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from farfield.atomic_write import atomic_write
from farfield.data.hard_negatives import COLUMNS, ErrorKind, HardWindow
from farfield.errors import FarfieldError
from farfield.evaluation.video_timeline import VideoTimeline
from farfield.task import Task


def find_hard_negatives(
    video: VideoTimeline, labels: Sequence[str], predicted: Bool[np.ndarray, "windows classes"]
) -> Iterator[HardWindow]:
    """Yield an entry for each wrongly predicted (window, class) pair of a video, in order of time.

    If the segments of a class cover a window only in part, both predicting and not predicting the class are correct.

    Args:
        video: a tested video.
        labels: label of each class.
        predicted: which classes were predicted for each window, see `predicted_classes`.
    """
    touched, covered = _truth_of_windows(video, labels)
    false_positive, missed = predicted & ~touched, ~predicted & covered
    for window, label in np.argwhere(false_positive | missed).tolist():
        start, end = video.windows[window].tolist()
        error: ErrorKind = "missed" if missed[window, label] else "false_positive"
        yield HardWindow(video.path, start, end, labels[label], error)


def predicted_classes(
    probabilities: Float[np.ndarray, "windows classes"], thresholds: Float[np.ndarray, " classes"], task: Task
) -> Bool[np.ndarray, "windows classes"]:
    """Return which classes are predicted for each window: those that reach their threshold.

    For a single-label network, only the most probable class of a window can be predicted.
    """
    reached = probabilities >= thresholds
    if task == "multilabel":
        return reached
    best = np.zeros_like(reached)
    best[np.arange(len(best)), probabilities.argmax(1)] = True
    return reached & best


def _truth_of_windows(
    video: VideoTimeline, labels: Sequence[str]
) -> tuple[Bool[np.ndarray, "windows classes"], Bool[np.ndarray, "windows classes"]]:
    """Return, for each window and class, whether the class's segments overlap the window, and whether they fill it."""
    position = {label: i for i, label in enumerate(labels)}
    starts, ends = video.windows.T
    touched = np.zeros((len(starts), len(labels)), bool)
    reach = np.repeat(starts[:, None], len(labels), 1)  # up to which time a class covers the window without a gap
    for start, end, label in video.truth:  # in order of their starts
        c = position[label]
        touched[:, c] |= (start < ends) & (end > starts)
        reach[:, c] = np.where(start <= reach[:, c] + _TOLERANCE, np.maximum(reach[:, c], end), reach[:, c])
    return touched, reach >= ends[:, None] - _TOLERANCE


_TOLERANCE = 1e-6
"""Tolerance in seconds for comparing times, which are rounded sums."""


def check_hard_negatives_file(path: str | Path) -> None:
    """Check, before a long test, that hard windows can be written to a file. Missing folders are created.

    Raises:
        FarfieldError: if the file cannot be written, or would replace a file of another kind.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    if path.is_dir():
        raise FarfieldError(f"write_hard_negatives is {path}, which is a folder. Give a file.")
    if path.is_file() and path.stat().st_size and _first_line(path) != ",".join(COLUMNS):
        raise FarfieldError(
            f"write_hard_negatives is {path}, which exists and is not a file of wrongly scored windows, so it is "
            "not replaced. Give a new name."
        )


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(1000).rstrip()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_hard_negatives(found: Sequence[HardWindow], path: str | Path) -> None:
    """Write hard windows to a CSV file, atomically. Missing folders are created.

    Raises:
        FarfieldError: if the file cannot be written.
    """
    path = Path(path)
    check_hard_negatives_file(path)
    try:
        with (
            atomic_write(path) as partial,
            partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for each in found:
                times = (f"{seconds:.10g}" for seconds in (each.start_seconds, each.end_seconds))
                writer.writerow([each.path, *times, each.label, each.error])
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> FarfieldError:
    return FarfieldError(f"{path} cannot be written: {error.strerror or error}. Give another path.")
