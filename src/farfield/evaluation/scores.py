"""A test's scores in a file: what each view of each video was taken for, to be averaged and compared afterwards."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.errors import FarfieldError

FILE = "scores.npz"


@dataclass(frozen=True)
class Scores:
    """What a test brought out.

    Attributes:
        labels: class names.
        paths: the videos.
        targets: their classes.
        views: class probabilities of each view, in half precision in the file.
    """

    labels: list[str]
    paths: list[str]
    targets: Int[Tensor, " n"]
    views: Float[Tensor, "n views classes"]

    @property
    def probabilities(self) -> Float[Tensor, "n classes"]:
        return self.views.float().mean(1)


def write_scores(scores: Scores, path: Path) -> None:
    """Writes the file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            labels=np.array(scores.labels),
            paths=np.array([each.encode("utf-8", "surrogateescape") for each in scores.paths]),
            targets=scores.targets.numpy(),
            views=scores.views.half().numpy(),
        )
    partial.replace(path)


def read_scores(path: Path) -> Scores:
    """Reads what `write_scores` wrote; executes no code from the file.

    Raises:
        FarfieldError: for a file that is missing or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return Scores(
                content["labels"].tolist(),
                [each.decode("utf-8", "surrogateescape") for each in content["paths"].tolist()],
                torch.from_numpy(content["targets"]),
                torch.from_numpy(content["views"]).float(),
            )
    except FileNotFoundError as error:
        raise FarfieldError(f"{path} does not exist. `farfield test` writes it.") from error
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise FarfieldError(f"{path} is no file of scores that `farfield test` wrote: {error}") from error
