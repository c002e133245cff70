"""Targets of a manifest's rows, from their labels; targets of clips, from the labelled segments of their videos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from farfield.data.frame_sampling import SEGMENT_TOLERANCE_SECONDS
from farfield.data.manifest import Manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.task import Task, head_columns


def row_targets(
    manifest: Manifest, labels: Sequence[str], task: Task
) -> Int[np.ndarray, " rows"] | Float[np.ndarray, "rows classes"]:
    """Return the target of each row: for `single_label`, the class as an index into `labels`; else 0 or 1 per class.

    Raises:
        FarfieldError: for a label that is not in `labels`; in a single-label task, for a row with no label or several;
            in a multi_head task, for a row without exactly one label of each head.
    """
    if task == "single_label":
        return manifest.targets(labels)
    targets = manifest.target_matrix(labels)
    if task == "multi_head":
        _check_heads(manifest, targets, labels)
    return targets


def _check_heads(manifest: Manifest, targets: Float[np.ndarray, "rows classes"], labels: Sequence[str]) -> None:
    for head, columns in head_columns(labels).items():
        counts = targets[:, columns].sum(1)
        if (counts != 1).any():
            record = manifest[int(np.argmax(counts != 1))]
            raise FarfieldError(
                f"{manifest.source}: {record.path} has the label {record.label!r}, but each video needs exactly one "
                f"class of head {head!r}. Correct the row."
            )


def count_videos(targets: np.ndarray, num_classes: int) -> list[int]:
    """Return the number of manifest rows that have each class, from the result of `row_targets`."""
    counts = np.bincount(targets, minlength=num_classes) if targets.ndim == 1 else np.count_nonzero(targets, axis=0)
    return [int(count) for count in counts]


@dataclass(frozen=True)
class WholeVideos:
    """The videos of a manifest, each with the segments of all its rows.

    Attributes:
        manifest: one row for each video. The row has the labels of all original rows of the video, and no segment.
        segments: for each row of `manifest`, the video's segments as (start, end, labels), in seconds. An infinite end
            is the end of the video.
    """

    manifest: Manifest
    segments: list[list[tuple[float, float, tuple[str, ...]]]]

    @classmethod
    def of(cls, manifest: Manifest) -> WholeVideos:
        """Merge the rows of each video: collect their labels and segments; take all other columns from the first row.

        Raises:
            FarfieldError: if two rows spell the path of one video differently, such as a.mp4 and ./a.mp4.
        """
        rows: dict[str, VideoRecord] = {}
        spelled: dict[Path, str] = {}
        segments: dict[str, list[tuple[float, float, tuple[str, ...]]]] = {}
        for record in manifest:
            first = spelled.setdefault(manifest.root / record.path, record.path)
            if first != record.path:
                raise FarfieldError(
                    f"{manifest.source} spells the path of a video in two ways, {first!r} and {record.path!r}, "
                    "so its segments would be divided between two videos. Use one spelling in all rows."
                )
            rows.setdefault(record.path, record)
            end = math.inf if record.end_seconds is None else record.end_seconds
            segments.setdefault(record.path, []).append((record.start_seconds or 0.0, end, record.labels))
        merged = [
            replace(
                record,
                label="|".join(dict.fromkeys(label for _, _, labels in segments[path] for label in labels)),
                start_seconds=None,
                end_seconds=None,
            )
            for path, record in rows.items()
        ]
        return cls(Manifest(merged, root=manifest.root, source=manifest.source), list(segments.values()))

    def labelled(self) -> WholeVideos:
        """Return the same videos without the segments that have no label."""
        return WholeVideos(self.manifest, [[each for each in segments if each[2]] for segments in self.segments])

    def clip_targets(self, labels: Sequence[str]) -> ClipTargets:
        """Return an object that computes the targets of clips of these videos.

        Args:
            labels: class names in the network's order.
        """
        position = {label: i for i, label in enumerate(labels)}
        bounds = [np.array([s[:2] for s in segments], dtype=np.float64).reshape(-1, 2) for segments in self.segments]
        has_label = []
        for segments in self.segments:
            matrix = np.zeros((len(segments), len(labels)), dtype=bool)
            for row, (_, _, names) in enumerate(segments):
                matrix[row, [position[name] for name in names]] = True
            has_label.append(matrix)
        return ClipTargets(bounds, has_label)


@dataclass(frozen=True)
class ClipTargets:
    """Computes targets of clips from the labelled segments of their videos.

    Attributes:
        bounds: for each video, start and end in seconds of each segment (segments 2).
        has_label: for each video, whether each segment has each class (segments classes).
    """

    bounds: list[Float[np.ndarray, "segments 2"]]
    has_label: list[Bool[np.ndarray, "segments classes"]]

    def of_clip(self, row: int, times_seconds: Float[np.ndarray, " t"]) -> Float[np.ndarray, " classes"]:
        """Return 1 for each class with a segment that overlaps the clip (first frame to last frame), 0 for all others.

        Source: `aggregate_labels` in PySlowFast's slowfast/datasets/charades.py, which collects the labels of all video
        frames from the clip's first frame to its last, including frames that the clip's stride skips.

        Args:
            row: index of the clip's video.
            times_seconds: start time of each frame of the clip.
        """
        starts, ends = self.bounds[row].T - SEGMENT_TOLERANCE_SECONDS
        overlaps = (starts <= times_seconds.max()) & (ends > times_seconds.min())
        return self.has_label[row][overlaps].any(0).astype(np.float32)

    def shares(self, row: int, start_seconds: float, end_seconds: float) -> Float[np.ndarray, " classes"]:
        """Return, for each class, the share of the time [start, end) that its segments cover: float32 in [0, 1].

        Time that several segments of a class cover counts once.
        """
        bounds = self.bounds[row].clip(start_seconds, end_seconds)
        edges = np.unique([start_seconds, end_seconds, *bounds.ravel()])
        middles = (edges[:-1] + edges[1:]) / 2
        inside = (bounds[:, 0] <= middles[:, None]) & (middles[:, None] < bounds[:, 1])  # parts x segments
        has_label = inside @ self.has_label[row]  # of booleans: any
        return (np.diff(edges) @ has_label / (end_seconds - start_seconds)).astype(np.float32)


def whole_videos_of(manifest: Manifest, task: Task, *, option: str) -> WholeVideos:
    """Merge the rows of each video, see `WholeVideos`.

    Args:
        manifest: rows to merge.
        task: task of the network.
        option: name of the option that requires whole videos, for the message.

    Raises:
        FarfieldError: unless the task is `multilabel`, since a whole video may have several labels.
    """
    if task != "multilabel":
        raise FarfieldError(
            f"{option} gives a video the labels of all its rows, which needs the task 'multilabel', but the "
            f"network's task is {task!r}. Leave out {option}, or train with --model.task multilabel."
        )
    return WholeVideos.of(manifest)
