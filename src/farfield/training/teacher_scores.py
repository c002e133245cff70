"""A teacher whose scores are read from a file: scores.npz or predictions.jsonl.

The file has class probabilities of each video, aggregated over the clips that the teacher scored. `farfield test`
writes scores.npz, and `farfield predict --out FOLDER --top_k N` writes predictions.jsonl.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import Batch
from farfield.data.mirrored_labels import mirrored_classes
from farfield.errors import FarfieldError, damage
from farfield.evaluation.manifest_scores import canonical_path
from farfield.evaluation.scores_file import read_scores
from farfield.task import DEFAULT_TASK, Task
from farfield.training.distillation import logits_of
from farfield.training.teacher import check_task, student_columns
from farfield.untrusted_json import JsonError, parse_json

Segment = tuple[str, float, float]
"""Absolute path of a video, and the start and end of its segment in seconds; 0 and infinity for the whole video."""

SAME = 1e-3
"""Largest difference at which two stored probabilities of a video count as equal, since they were rounded."""


class StoredScores(NamedTuple):
    """A teacher's class probabilities for a set of videos.

    Attributes:
        labels: class names of the teacher.
        task: task of the teacher.
        probabilities: class probabilities of each video or segment, by its `segment_key`; None if the teacher could
            not read the video.
    """

    labels: list[str]
    task: Task
    probabilities: dict[Segment, Float[np.ndarray, " classes"] | None]


class StoredTeacher:
    """Teacher with stored scores of the training videos. Call `find_videos` before the first batch.

    Every clip of a video gets the video's scores, adapted to the clip's augmentation. For a mirrored clip, each class's
    probability moves to the class that the mirrored clip shows, for example from "turn left" to "turn right". A clip
    mixed from two videos (MixUp or CutMix) gets the mean of the two videos' probabilities, weighted by the videos'
    shares in the mix.

    Args:
        path: scores.npz or predictions.jsonl.
        labels: classes of the student.
        task: task of the student.

    Raises:
        FarfieldError: if the file cannot be read, is of another task, or lacks a class of the student.
    """

    def __init__(self, path: str, labels: Sequence[str], task: Task) -> None:
        self._path, self._labels, self._task = path, labels, task
        read = _read_predictions if Path(path).suffix == ".jsonl" else _read_npz
        self._stored = read(Path(path))
        name = f"the file of the teacher's scores, {path},"
        check_task(self._stored.task, task, name)
        self._columns = student_columns(self._stored.labels, labels, name).numpy()
        self._hash = _file_hash(path)
        self.table: Float[Tensor, "rows classes"] | None = None
        """Probabilities of each training video, one row per video; NaN for a video that the teacher could not read."""
        self._mirrored = torch.arange(len(labels))

    @property
    def provenance(self) -> dict[str, Any]:
        return {"teacher": self._path, "teacher_hash": self._hash}

    def find_videos(self, data: VideoDataModule) -> None:
        """Look up the stored scores of all training videos.

        Raises:
            FarfieldError: if a video has no score, or the training videos are untrimmed.
        """
        if data.untrimmed_options.untrimmed:
            raise FarfieldError(
                "model.teacher_scores has one score for a whole video or segment, but data.untrimmed draws clips from "
                "anywhere in a video. Use model.teacher, which scores each clip."
            )
        videos, known = data.training_videos, self._stored.probabilities
        keys = [segment_key(videos.path(row), *_times(videos[row])) for row in range(len(videos))]
        missing = [key for key in keys if key not in known]
        if missing:
            raise FarfieldError(
                f"{self._path} lacks the scores of {len(missing)} of {len(keys)} training videos, such as "
                f"{describe(missing[0])}. Score every video of data.train and data.unlabelled, with the same segments "
                "as in these manifests, and remove unreadable videos from the manifests."
            )
        unread = np.full(len(self._labels), np.nan, dtype=np.float32)
        rows = [unread if (found := known[key]) is None else found[self._columns] for key in keys]
        self.table = torch.from_numpy(np.stack(rows)).float()
        self._mirrored = torch.from_numpy(mirrored_classes(self._labels, data.flip_labels))

    def scores(self, batch: Batch) -> tuple[Float[Tensor, "b classes"], Float[Tensor, " b"]]:
        assert self.table is not None
        device = batch.clips.device
        p = self.table[batch.indices.cpu()].to(device)
        known = ~p.isnan().any(1)
        p = p.nan_to_num(0.5)
        flip, mix = (None, None) if batch.draw is None else (batch.draw.flip, batch.draw.mix)
        if flip is not None:
            p = torch.where(flip[:, None], self._of_mirrored(p), p)
        if mix is not None:
            p = torch.lerp(p[mix.partner], p, mix.share[:, None])
            known = known & known[mix.partner]
        return logits_of(p, self._task), known.float()

    def _of_mirrored(self, p: Float[Tensor, "b classes"]) -> Float[Tensor, "b classes"]:
        """Move each class's probability to the class that it becomes in a mirrored clip (see `mirrored_classes`).

        If several classes become the same class, that class gets the sum of their probabilities; for `multilabel`, the
        largest of their probabilities.
        """
        places = self._mirrored.to(p.device).expand_as(p)
        return torch.zeros_like(p).scatter_reduce(1, places, p, "amax" if self._task == "multilabel" else "sum")

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredTeacher:
        return self


def segment_key(path: Path, start_seconds: float | None, end_seconds: float | None) -> Segment:
    """Return the key that identifies a segment of a video.

    A start of None or NaN is the start of the video; an end of None or NaN is the end of the video.
    """
    start = 0.0 if start_seconds is None or math.isnan(start_seconds) else float(start_seconds)
    end = math.inf if end_seconds is None or math.isnan(end_seconds) else float(end_seconds)
    # Times as the file of `farfield test` has them, in float32, to the millisecond.
    start, end = (round(float(np.float32(time)), 3) for time in (start, end))
    return canonical_path(path), start, end


def describe(key: Segment) -> str:
    """Format a key for messages: the video's path and, unless the key stands for a whole video, the segment."""
    path, start, end = key
    return path if (start, end) == (0, math.inf) else f"{path} [{start:g}, {end:g}) s"


def _times(record: Any) -> tuple[float | None, float | None]:
    return record.start_seconds, record.end_seconds


def _read_npz(path: Path) -> StoredScores:
    scores = read_scores(path)
    times = scores.segments.tolist() if scores.segments is not None else [[math.nan, math.nan]] * len(scores.paths)
    found: dict[Segment, Float[np.ndarray, " classes"] | None] = {}
    for each, pair, chances in zip(scores.paths, times, scores.probabilities.numpy(), strict=True):
        _add(found, segment_key(Path(each), *pair), chances, path)
    return StoredScores(scores.labels, scores.task, found)


def _add(
    found: dict[Segment, Float[np.ndarray, " classes"] | None],
    key: Segment,
    chances: Float[np.ndarray, " classes"] | None,
    path: Path,
) -> None:
    """Add the probabilities of a video to `found`. None (unreadable video) never replaces probabilities.

    Raises:
        FarfieldError: if `found` already has different probabilities for the video.
    """
    before = found.setdefault(key, chances)
    if before is None:
        found[key] = chances
    elif chances is not None and not np.allclose(before, chances, rtol=0, atol=SAME):
        raise FarfieldError(
            f"{path} has two different scores for {describe(key)}. Give a file that one run of farfield test or "
            "farfield predict wrote."
        )


def _read_predictions(path: Path) -> StoredScores:
    """Read predictions.jsonl, which must have every class of every video.

    Raises:
        FarfieldError: if the file cannot be read, or classes are missing.
    """
    labels: list[str] = []
    task: Task = "single_label"
    found: dict[Segment, Float[np.ndarray, " classes"] | None] = {}
    for key, of_video, chances in _entries(path):
        if not chances:
            _add(found, key, None, path)
            continue
        if not labels:
            labels, task = sorted(chances), of_video
        if differing := sorted(chances.keys() ^ labels):
            which = "has" if differing[0] in chances else "lacks"
            raise FarfieldError(
                f"{path} does not have the same classes for every video: {describe(key)} {which} {differing[0]!r}, "
                "unlike the videos before it. Run farfield predict --out with --top_k set to the number of the "
                "teacher's classes."
            )
        _add(found, key, np.array([chances[label] for label in labels], dtype=np.float32), path)
    whole = {"single_label": 1, "multilabel": 0, "multi_head": len({each.partition(":")[0] for each in labels})}[task]
    if any(p is not None and p.sum() < whole - 1e-3 for p in found.values()):
        raise FarfieldError(
            f"{path} has only the most probable classes of each video. Run farfield predict --out with --top_k set to "
            "the number of the teacher's classes."
        )
    if not labels:
        raise FarfieldError(f"{path} has no scores. Run farfield predict --out to write it.")
    return StoredScores(labels, task, found)


def _chances(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the class probabilities in a line of predictions.jsonl; an empty dict if the video was unreadable."""
    if entry.get("heads"):
        pairs = ((f"{head}:{each['label']}", each) for head, ranking in entry["heads"].items() for each in ranking)
    else:
        pairs = ((each["label"], each) for each in entry["ranking"])
    chances = {label: float(each["probability"]) for label, each in pairs}
    if bad := [label for label, chance in chances.items() if not 0 <= chance <= 1]:  # also NaN
        raise ValueError(f"the probability of {bad[0]!r} is {chances[bad[0]]}; it must be from 0 to 1")
    return chances


def _entries(path: Path) -> Iterator[tuple[Segment, Task, dict[str, float]]]:
    """Yield (segment key, task, class probabilities) for each video of a predictions.jsonl.

    The probabilities are an empty dict if the video could not be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                entry = parse_json(line)
                times = entry.get("requested_start_seconds"), entry.get("requested_end_seconds")
                yield segment_key(Path(entry["path"]), *times), entry.get("task", DEFAULT_TASK), _chances(entry)
    except FileNotFoundError as error:
        raise FarfieldError(f"model.teacher_scores is {path}, which does not exist. Check the path.") from error
    except (OSError, ValueError, JsonError, LookupError, TypeError, AttributeError) as error:
        raise FarfieldError(
            f"{path} cannot be read as predictions.jsonl: {damage(error)}. Run farfield predict --out to write it."
        ) from error


def _file_hash(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
