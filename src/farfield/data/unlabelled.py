"""Read the list of unlabelled videos, and mix these videos into the epochs of labelled training videos."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from farfield.data.manifest import Manifest, read_manifest
from farfield.data.samplers import class_balanced_order
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

log = logging.getLogger("farfield")


def read_unlabelled(path: str, *, root: str | None) -> Manifest:
    """Read a list of videos without labels: a manifest that needs no column `label`.

    If the list has labels, log that they are ignored.

    Raises:
        FarfieldError: see `read_manifest`.
    """
    videos = read_manifest(path, root=root, needs_labels=False)
    if videos.labels:
        log.info("data.unlabelled: the labels in %s are ignored.", path)
    return videos


def unlabelled_videos(
    path: str | None, share: float | None, *, root: str | None, untrimmed: bool, option: str = "data.unlabelled"
) -> Manifest | None:
    """Check the options for unlabelled videos, and read the list of these videos.

    Args:
        path: CSV file that lists the videos; None for no unlabelled videos.
        share: fraction of an epoch's videos that are unlabelled; None for every unlabelled video once.
        root: folder that the paths in the list are relative to; None for the folder of the list.
        untrimmed: whether the run trains on untrimmed videos, which cannot be combined with unlabelled videos.
        option: name of the option that gives `path`, for messages.

    Returns:
        The unlabelled videos; None if `path` is None.

    Raises:
        FarfieldError: if `share` is out of range or set without `path`, if `path` and `untrimmed` are both set, or if
            the list cannot be read.
    """
    if path is None:
        if share is not None:
            raise FarfieldError(
                f"{option}_share is {share}, but {option} is not set. Set {option}, or leave out {option}_share."
            )
        return None
    if share is not None and not 0 < share < 1:
        raise FarfieldError(f"{option}_share is {share}; it must be above 0 and below 1, or null.")
    if untrimmed:
        raise FarfieldError(
            f"{option} and data.untrimmed cannot be combined: with data.untrimmed, a row without label means a video "
            f"in which nothing happens. Leave out {option}."
        )
    return read_unlabelled(path, root=root)


@dataclass(frozen=True)
class TrainingVideos:
    """Labelled training videos, followed by the unlabelled ones, if any.

    Attributes:
        labelled: manifest of the n labelled videos, which have the rows 0 to n - 1.
        unlabelled: manifest of the unlabelled videos, which have the rows from n on; None if there are none.
    """

    labelled: Manifest
    unlabelled: Manifest | None = None

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled or ())

    def __getitem__(self, row: int) -> VideoRecord:
        source, own = self._place(row)
        return source[own]

    def path(self, row: int) -> Path:
        """Return the path of a row's video file or folder of numbered pictures."""
        source, own = self._place(row)
        return source.path(own)

    def _place(self, row: int) -> tuple[Manifest, int]:
        if self.unlabelled is None or row < len(self.labelled):
            return self.labelled, row
        return self.unlabelled, row - len(self.labelled)


@dataclass(frozen=True)
class MixedEpoch:
    """Draws epochs that mix labelled and unlabelled videos in random order.

    Attributes:
        num_labelled: number of labelled videos.
        num_unlabelled: number of unlabelled videos, whose rows follow those of the labelled videos.
        share: fraction of an epoch's samples that are unlabelled. If there are more unlabelled videos than this
            fraction needs, each epoch draws a random selection; if there are fewer, videos are repeated. None to draw
            each unlabelled video once per epoch.
        classes: class of each labelled video, to draw all classes equally often; None to draw each labelled video once
            per epoch.
    """

    num_labelled: int
    num_unlabelled: int
    share: float | None = None
    classes: Int[np.ndarray, " labelled"] | None = None

    def __len__(self) -> int:
        return self.num_labelled + self._count

    @property
    def _count(self) -> int:
        """Number of unlabelled samples of an epoch."""
        if self.share is None:
            return self.num_unlabelled
        return max(1, round(self.num_labelled * self.share / (1 - self.share)))

    def draw(self, rng: np.random.Generator) -> tuple[Int[np.ndarray, " samples"], Int[np.ndarray, " samples"]]:
        """Draw the samples of an epoch.

        Returns:
            Row of each sample, in random order; and for each sample, the number that distinguishes it from other
            samples of its row: 0, 1, ... (`SampleKey.repeat`).
        """
        if self.classes is None:
            rows, repeats = np.arange(self.num_labelled), np.zeros(self.num_labelled, dtype=np.int64)
        else:
            rows, repeats = class_balanced_order(self.classes, rng)
        rounds = -(-self._count // self.num_unlabelled)
        more = np.concatenate([rng.permutation(self.num_unlabelled) for _ in range(rounds)])[: self._count]
        again = np.repeat(np.arange(rounds), self.num_unlabelled)[: self._count]
        order = rng.permutation(len(self))
        return (
            np.concatenate([rows, more + self.num_labelled])[order],
            np.concatenate([repeats, again])[order],
        )


def padded_targets(targets: np.ndarray, count: int) -> np.ndarray:
    """Append zeros for `count` unlabelled videos to `targets`, the result of `row_targets`."""
    return np.concatenate([targets, np.zeros((count, *targets.shape[1:]), dtype=targets.dtype)])
