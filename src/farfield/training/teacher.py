"""The teacher of a distillation: a frozen network that scores the student's clips."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from farfield.checkpoints.content_hash import network_hash
from farfield.checkpoints.hugging_face_folder import is_hugging_face
from farfield.clip_spec import ClipSpec
from farfield.data.datasets import Batch
from farfield.errors import FarfieldError, nearest
from farfield.scoring.load import InferenceModel, load_model
from farfield.task import Task

log = logging.getLogger("farfield")


class Teacher(Protocol):
    """Source of scores for the student's clips. A clip's scores are in the order of the student's classes.

    A teacher is not an `nn.Module`, and copying it returns the same object. Therefore the student's checkpoint,
    optimiser, DDP and exponential moving average do not include it.
    """

    @property
    def provenance(self) -> dict[str, Any]:
        """Path and content hash of the teacher, to store in the student's checkpoint."""

    def scores(self, batch: Batch) -> tuple[Float[Tensor, "b classes"], Float[Tensor, " b"] | None]:
        """Return the scores of a batch's clips, and each clip's weight in the loss.

        The weight is 0 for a clip for which the teacher has no scores, otherwise 1. None in place of the weights means
        that all are 1.
        """

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher: ...


def load_teacher(path: str) -> InferenceModel:
    """Load a teacher on the CPU, optimised for inference. Further calls for the same file return the same network.

    Raises:
        FarfieldError: if the file does not exist, or `load_model` cannot load it.
    """
    exists = Path(path).exists()
    if not exists and not is_hugging_face(path):
        raise FarfieldError(
            f"model.teacher is {path}, which does not exist. Give a checkpoint, or a folder or file that farfield "
            "export wrote."
        )
    return _load(path, Path(path).stat().st_mtime_ns if exists else 0)


@lru_cache(maxsize=1)
def _load(path: str, changed: int) -> InferenceModel:
    return load_model(path, device="cpu").eval()


def teacher_clip(path: str | None) -> dict[str, Any] | None:
    """Return the clip settings of a teacher, as a dict of `ClipSpec` fields; None without a teacher."""
    return None if path is None else load_teacher(path).clip.to_dict()


class NetworkTeacher:
    """A network that scores the clips in `Batch.teacher_clips`.

    The network is in evaluation mode, is moved to the device of the clips, and runs under the autocast of the caller,
    without gradients. An exported file stays on the CPU.

    Args:
        path: path of the network, see `load_model`.
        labels: classes of the student. The scores of any other classes of the teacher are dropped. Unless the
            task is `multilabel`, the teacher's probabilities are then normalised over the student's classes only (for
            `multi_head`, in each head separately).
        task: task of the student.

    Raises:
        FarfieldError: if the network cannot be loaded, has another task, or lacks a class of the student.
    """

    def __init__(self, path: str, labels: Sequence[str], task: Task) -> None:
        self.network = load_teacher(path)
        _load.cache_clear()  # the last use of the network that is loaded for its clip settings
        check_task(self.network.task, task, f"the teacher {path}")
        self.columns = student_columns(self.network.labels, labels, f"the teacher {path}")
        self._path = path
        self._hash = network_hash(path)

    @property
    def clip(self) -> ClipSpec:
        """Clip settings of the teacher."""
        return self.network.clip

    @property
    def provenance(self) -> dict[str, Any]:
        return {"teacher": self._path, "teacher_hash": self._hash}

    def scores(self, batch: Batch) -> tuple[Float[Tensor, "b classes"], None]:
        clips = batch.teacher_clips
        assert clips is not None
        if isinstance(self.network, nn.Module) and self.network.device != clips.device:
            self.network.to(clips.device)
        with torch.no_grad():
            scores = self.network(clips.to(self.network.device))
        # A copy: some exported graphs run in inference mode, whose tensors autograd refuses.
        return scores.clone().to(clips.device)[:, self.columns.to(clips.device)], None

    def __deepcopy__(self, memo: dict[int, Any]) -> NetworkTeacher:
        return self


def student_columns(of_teacher: Sequence[str], labels: Sequence[str], name: str) -> Int[Tensor, " classes"]:
    """Return, for each class of the student, its column in the teacher's scores; log extra classes of the teacher.

    Raises:
        FarfieldError: for a class that the teacher lacks.
    """
    position = {label: i for i, label in enumerate(of_teacher)}
    missing = [label for label in labels if label not in position]
    if missing:
        raise FarfieldError(
            f"{name} lacks {len(missing)} of the student's {len(labels)} classes, such as {missing[0]!r}. "
            f"{nearest(missing[0], of_teacher)} Use the teacher's class names in the manifest, or a teacher that has "
            "all classes of the student."
        )
    if len(of_teacher) > len(labels):
        log.info(
            "%s has %d classes, and the student has %d of them; the student learns from the teacher's scores of "
            "these classes only.",
            name,
            len(of_teacher),
            len(labels),
        )
    return torch.tensor([position[label] for label in labels])


def check_task(of_teacher: Task, task: Task, name: str) -> None:
    """Raise `FarfieldError` unless the teacher has the student's task."""
    if of_teacher != task:
        raise FarfieldError(
            f"{name} has task '{of_teacher}', but the student's task is '{task}', so their probabilities cannot be "
            f"compared. Train the student with --model.task {of_teacher}, or use a teacher of task '{task}'."
        )
