"""Soft loss of a training step in distillation: compare the student's scores with its teacher's."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from farfield.data.datamodule import VideoDataModule
from farfield.models.network import ActionNet
from farfield.training.distillation import Distillation, soft_losses
from farfield.training.loss import mean_over_clips
from farfield.training.teacher import NetworkTeacher, Teacher
from farfield.training.teacher_scores import StoredTeacher


class Distiller:
    """The teacher of a distillation, its weight in the loss, and the temperature. Not an `nn.Module`, see `Teacher`.

    Args:
        settings: weight of the teacher in the loss, and temperature.
        teacher: source of the teacher's scores.
        student: network that learns from the teacher; its task and heads determine the form of the soft loss.
    """

    def __init__(self, settings: Distillation, teacher: Teacher, student: ActionNet) -> None:
        self.settings = settings
        self.teacher = teacher
        self._task = student.task
        self._head_sizes = student.head.head_sizes

    @classmethod
    def make(cls, settings: Distillation | None, student: ActionNet) -> Distiller | None:
        """Load the teacher, and create a `Distiller`; return None if `settings` is None or contains no teacher.

        Raises:
            FarfieldError: if the teacher cannot be used, see `NetworkTeacher` and `StoredTeacher`.
        """
        if settings is None:
            return None
        if settings.teacher is not None:
            return cls(settings, NetworkTeacher(settings.teacher, student.labels, student.task), student)
        if settings.teacher_scores is not None:
            return cls(settings, StoredTeacher(settings.teacher_scores, student.labels, student.task), student)
        return None

    @property
    def provenance(self) -> dict[str, Any]:
        """The teacher's path and content hash, its weight in the loss, and the temperature, as plain types."""
        chosen = {"teacher_weight": self.settings.teacher_weight, "temperature": self.settings.temperature}
        return self.teacher.provenance | chosen

    def find_videos(self, data: VideoDataModule) -> None:
        """Look up the stored scores of the training videos, for a `StoredTeacher`; do nothing for other teachers."""
        if isinstance(self.teacher, StoredTeacher):
            self.teacher.find_videos(data)

    def soft_loss(self, student: Float[Tensor, "b classes"], batch: Any) -> Float[Tensor, ""]:
        """Compute the mean soft loss of a batch (see `soft_losses`). Clips without teacher scores have a loss of 0."""
        scores, weights = self.teacher.scores(batch)
        losses = soft_losses(
            student, scores, self._task, temperature=self.settings.temperature, head_sizes=self._head_sizes
        )
        return mean_over_clips(losses, weights)

    def total(self, hard: Float[Tensor, ""], soft: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the total loss (1 - w) hard + w soft, with the teacher's weight w."""
        w = self.settings.teacher_weight
        return (1 - w) * hard + w * soft

    def __deepcopy__(self, memo: dict[int, Any]) -> Distiller:
        return self
