"""Distillation: a student learns a teacher's probabilities.

Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531:

    loss = (1 - w) hard loss + w T^2 KL(teacher at temperature T || student at temperature T)

w is the teacher's weight. The hard loss is the usual loss against the labels. "At temperature T" means that scores are
divided by T before the softmax. The gradients of the KL divergence scale with 1 / T^2; the factor T^2 compensates for
this (section 2 of the paper).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farfield.errors import FarfieldError
from farfield.task import Task


@dataclass(frozen=True)
class Distillation:
    """Settings of distillation, see `build_training_module`."""

    teacher: str | None = None
    teacher_scores: str | None = None
    teacher_weight: float = 0.9
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.teacher_weight <= 1:
            raise FarfieldError(f"model.teacher_weight is {self.teacher_weight}; it must be from 0 to 1.")
        if not 0 < self.temperature < math.inf:
            raise FarfieldError(f"model.temperature is {self.temperature}; it must be a number above 0.")
        if self.teacher is not None and self.teacher_scores is not None:
            raise FarfieldError(
                "model.teacher and model.teacher_scores are both set, but a student has one teacher. Leave one out: "
                "model.teacher scores each clip; model.teacher_scores gives stored scores of whole videos."
            )
        plain = type(self).teacher_weight, type(self).temperature
        if not self.is_on and (self.teacher_weight, self.temperature) != plain:
            raise FarfieldError(
                "model.teacher_weight and model.temperature need a teacher, but none is given. Set model.teacher or "
                "model.teacher_scores, or leave out model.teacher_weight and model.temperature."
            )

    @property
    def is_on(self) -> bool:
        """Whether there is a teacher."""
        return self.teacher is not None or self.teacher_scores is not None


def soft_losses(
    student: Float[Tensor, "b classes"],
    teacher: Float[Tensor, "b classes"],
    task: Task,
    *,
    temperature: float,
    head_sizes: Sequence[int] | None = None,
) -> Float[Tensor, " b"]:
    """Compute T^2 KL(teacher || student) of each clip, with the scores of both divided by the temperature T.

    For `single_label`, the KL divergence is between the distributions over the classes. For `multilabel`, it is between
    the Bernoulli distributions (present or absent) of each class, averaged over the classes. For `multi_head`, it is
    between the distributions over each head's classes, averaged over the heads.

    Args:
        student: scores of the student.
        teacher: scores of the teacher, for the same classes in the same order. No gradient flows into them.
        task: task of both networks.
        temperature: T. If T is high, all classes count; if T is low, mainly the most probable classes count.
        head_sizes: number of classes of each head, for `multi_head`.

    Returns:
        float32, or float64 for float64 scores.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    s, t = student.to(dtype) / temperature, teacher.detach().to(dtype) / temperature
    if task == "multilabel":
        p = t.sigmoid()
        divergences = p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
        return temperature**2 * divergences.mean(1)
    sizes = list(head_sizes or [student.shape[1]])
    heads = zip(s.split(sizes, dim=1), t.split(sizes, dim=1), strict=True)
    return temperature**2 * torch.stack([_divergences(*head) for head in heads]).mean(0)


def _divergences(s: Float[Tensor, "b c"], t: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    return F.kl_div(s.log_softmax(1), t.log_softmax(1), log_target=True, reduction="none").sum(1)


def logits_of(probabilities: Float[Tensor, "b classes"], task: Task) -> Float[Tensor, "b classes"]:
    """Convert probabilities to logits: logarithms, or log odds for `multilabel`. Inverse of `class_probabilities`."""
    if task == "multilabel":
        return torch.logit(probabilities, eps=1e-6)
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
