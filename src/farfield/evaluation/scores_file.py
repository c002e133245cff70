"""A test's scores in a file: what each view of each video was taken for, to be averaged and compared afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.atomic_write import atomic_write
from farfield.errors import FarfieldError
from farfield.scoring.aggregation import aggregate_views

FILE = "scores.npz"


@dataclass(frozen=True)
class Scores:
    """What a test brought out.

    Attributes:
        labels: class names.
        paths: the videos.
        targets: their classes.
        views: class probabilities of each view.
        segments: begin and end in seconds of what was scored of each video, NaN for its own; None where no row of the
            manifest has a segment.
    """

    labels: list[str]
    paths: list[str]
    targets: Int[Tensor, " n"]
    views: Float[Tensor, "n views classes"]
    segments: Float[Tensor, "n 2"] | None = None

    @property
    def names(self) -> list[str]:
        """What tells a row from all others: the video and, where there are segments, which."""
        if self.segments is None:
            return self.paths
        return [
            f"{path} [{start}, {end})" for path, (start, end) in zip(self.paths, self.segments.tolist(), strict=True)
        ]

    @property
    def probabilities(self) -> Float[Tensor, "n classes"]:
        return aggregate_views(self.views.float())


def write_scores(scores: Scores, path: Path, *, confusion: Int[Tensor, "classes classes"] | None = None) -> None:
    """Writes the file whole or not at all.

    Args:
        scores: what to write.
        path: the file.
        confusion: the confusion matrix, for programs that read the file: as "confusion_matrix", a row a true class.
    """
    more: dict[str, Any] = {} if scores.segments is None else {"segments": scores.segments.numpy()}
    if confusion is not None:
        more["confusion_matrix"] = confusion.to(torch.int32).numpy()
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            labels=np.array(scores.labels),
            paths=np.array([each.encode("utf-8", "surrogateescape") for each in scores.paths]),
            targets=scores.targets.numpy(),
            views=scores.views.float().numpy(),  # half precision would make the least likely classes equal
            **more,
        )


def read_scores(path: Path) -> Scores:
    """Reads what `write_scores` wrote; executes no code from the file.

    Raises:
        FarfieldError: for a file that is missing or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            scores = Scores(
                [str(each) for each in content["labels"].tolist()],
                [each.decode("utf-8", "surrogateescape") for each in content["paths"].tolist()],
                torch.from_numpy(content["targets"]).long(),
                torch.from_numpy(content["views"]).float(),
                torch.from_numpy(content["segments"]).double() if "segments" in content else None,
            )
    except FileNotFoundError as error:
        raise FarfieldError(f"{path} does not exist. `farfield test` writes it.") from error
    # What numpy, zipfile and zlib raise for damaged files is not documented, and is many things.
    except Exception as error:
        raise FarfieldError(f"{path} is no file of scores that `farfield test` wrote: {error}") from error
    n, classes = len(scores.paths), len(scores.labels)
    shapes = tuple(scores.targets.shape), tuple(scores.views.shape)
    fits = shapes[0] == (n,) and len(shapes[1]) == 3 and (shapes[1][0], shapes[1][2]) == (n, classes)
    if scores.segments is not None:
        fits = fits and scores.segments.shape == (n, 2)
    if not fits or (n and not 0 <= int(scores.targets.min()) <= int(scores.targets.max()) < classes):
        raise FarfieldError(
            f"{path} is no file of scores that `farfield test` wrote: it has {n} videos, {classes} classes, targets "
            f"{shapes[0]} and views {shapes[1]}."
        )
    return scores
