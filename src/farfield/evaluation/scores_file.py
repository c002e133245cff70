"""Read and write scores.npz, the class probabilities of each view of each video of a test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from farfield.atomic_write import atomic_write
from farfield.clip_spec import ViewsAggregation
from farfield.errors import FarfieldError
from farfield.scoring.aggregation import aggregate_views
from farfield.task import DEFAULT_TASK, Task

FILE = "scores.npz"


@dataclass(frozen=True)
class Scores:
    """Class probabilities of each view of a test's videos, and the true classes.

    Attributes:
        labels: class names.
        paths: paths of the videos.
        targets: for `single_label`, the true class of each video, as an index into `labels`; for other tasks, whether
            each video has each class, True or False.
        views: class probabilities of each view.
        segments: scored segment of each video, as [start, end) in seconds. NaN as start or end stands for the start or
            end of the video. None if no row of the manifest has a segment.
        views_aggregation: how the probabilities of the views are aggregated.
        task: task of the network.
    """

    labels: list[str]
    paths: list[str]
    targets: Int[Tensor, " n"] | Bool[Tensor, "n classes"]
    views: Float[Tensor, "n views classes"]
    segments: Float[Tensor, "n 2"] | None = None
    views_aggregation: ViewsAggregation = "mean"
    task: Task = DEFAULT_TASK

    @property
    def names(self) -> list[str]:
        """Name of each scored video: its path, followed by the segment if only a segment of the video was scored."""
        if self.segments is None:
            return self.paths
        rows = zip(self.paths, self.segments.tolist(), strict=True)
        return [
            path if math.isnan(start) and math.isnan(end) else f"{path} [{start}, {end})" for path, (start, end) in rows
        ]

    @property
    def probabilities(self) -> Float[Tensor, "n classes"]:
        return aggregate_views(self.views.float(), method=self.views_aggregation)

    def target_matrix(self) -> Bool[Tensor, "n classes"]:
        """Return whether each video has each class."""
        return one_hot(self.targets, len(self.labels)).bool() if self.task == "single_label" else self.targets

    def label_texts(self) -> list[str]:
        """Return the labels of each video as in a manifest's column `label`: `a|b` for several, empty for none."""
        return label_texts(self.target_matrix(), self.labels)


def check_numbers(scores: Scores) -> None:
    """Raise `FarfieldError` if a probability is NaN."""
    if scores.views.isnan().any():
        row = int(scores.views.isnan().flatten(1).any(1).nonzero()[0, 0])
        raise FarfieldError(
            f"the network's scores of {scores.names[row]} are not numbers (NaN). Check that training has not "
            "diverged, or test with precision '32-true'."
        )


def label_texts(has_label: Bool[Tensor, "n classes"], labels: Sequence[str]) -> list[str]:
    """Return a text for each video: the labels that it has, separated by `|`."""
    return ["|".join(label for label, has in zip(labels, row, strict=True) if has) for row in has_label.tolist()]


def write_scores(
    scores: Scores,
    path: Path,
    *,
    confusion: Int[Tensor, "classes classes"] | None = None,
    groups: Sequence[str | None] | None = None,
) -> None:
    """Write scores to an .npz file, atomically.

    Args:
        scores: scores to write.
        path: output file.
        confusion: confusion matrix to store as "confusion_matrix" for other programs; rows are true classes.
        groups: group of each video (None for a video without a group), to store as "groups"; None if no video has a
            group.
    """
    more: dict[str, Any] = {} if scores.segments is None else {"segments": scores.segments.numpy()}
    if confusion is not None:
        more["confusion_matrix"] = confusion.to(torch.int32).numpy()
    if groups is not None:
        more["groups"] = _as_bytes([group or "" for group in groups])
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            labels=np.array(scores.labels),
            paths=_as_bytes(scores.paths),
            targets=scores.targets.numpy(),
            views=scores.views.float().numpy(),  # half precision would underflow for the least likely classes
            task=np.array(scores.task),
            views_aggregation=np.array(scores.views_aggregation),
            **more,
        )


def _as_bytes(texts: Sequence[str]) -> np.ndarray:
    return np.array([each.encode("utf-8", "surrogateescape") for each in texts], dtype=np.bytes_)


def read_groups(path: Path) -> list[str | None] | None:
    """Read the group of each video from a scores file. Call `read_scores` first, which checks the file.

    Returns:
        Group of each video (None for a video without a group). None instead of a list if no video has a group, or if
        the file is from an earlier version of farfield, which did not store groups.

    Raises:
        FarfieldError: if the groups are damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            if "groups" not in content:
                return None
            return [each.decode("utf-8", "surrogateescape") or None for each in content["groups"].tolist()]
    except Exception as error:  # many undocumented ones, see `read_scores`
        raise FarfieldError(
            f"the groups in {path} cannot be read: {error}. Run `farfield test` to write a new file."
        ) from error


def read_scores(path: Path) -> Scores:
    """Read a file written by `write_scores`, without unpickling.

    Early versions of farfield had no multilabel tasks. A file from such a version is read as a single-label test with
    `views_aggregation` "mean".

    Raises:
        FarfieldError: if the file is missing or is not a scores file.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            scores = Scores(
                [str(each) for each in content["labels"].tolist()],
                [each.decode("utf-8", "surrogateescape") for each in content["paths"].tolist()],
                _targets(content["targets"]),
                torch.from_numpy(content["views"]).float(),
                torch.from_numpy(content["segments"]).double() if "segments" in content else None,
                cast(ViewsAggregation, str(content.get("views_aggregation", "mean"))),
                cast(Task, str(content.get("task", DEFAULT_TASK))),
            )
    except FileNotFoundError as error:
        raise FarfieldError(f"{path} does not exist. Run `farfield test` to write it.") from error
    # numpy, zipfile and zlib raise many undocumented exceptions for damaged files. numpy advises to allow pickles.
    except Exception as error:
        raise FarfieldError(
            f"{path} is damaged, or not a scores file written by `farfield test`. Run `farfield test` to write a new "
            "one."
        ) from error
    n, classes = len(scores.paths), len(scores.labels)
    shapes = tuple(scores.targets.shape), tuple(scores.views.shape)
    fits = shapes[0] == ((n,) if scores.task == "single_label" else (n, classes)) and scores.task in get_args(Task)
    fits = fits and len(shapes[1]) == 3 and (shapes[1][0], shapes[1][2]) == (n, classes)
    fits = fits and scores.views_aggregation in get_args(ViewsAggregation)
    if scores.segments is not None:
        fits = fits and scores.segments.shape == (n, 2)
    if scores.task != "single_label":
        fits = fits and scores.targets.dtype == torch.bool
    elif n:
        fits = fits and 0 <= int(scores.targets.min()) <= int(scores.targets.max()) < classes
    if not fits:
        raise FarfieldError(
            f"{path} is not a scores file written by `farfield test`: its contents are not valid or do not fit "
            f"together ({n} videos, {classes} classes, targets of shape {shapes[0]} and views of shape {shapes[1]}). "
            "Run `farfield test` to write a new one."
        )
    return scores


def _targets(stored: np.ndarray) -> Tensor:
    targets = torch.from_numpy(stored)
    return targets if targets.dtype == torch.bool else targets.long()
