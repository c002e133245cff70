"""The soft loss against loops of the formula in float64, and the labels of mixed and unlabelled clips."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.data.augmentation import Draw, Mix
from farfield.data.datasets import Batch
from farfield.task import Task, class_probabilities
from farfield.training.distillation import logits_of, soft_losses
from farfield.training.loss import classification_loss, labelled_part
from farfield.training.multi_head_loss import multi_head_loss
from farfield.training.multilabel_loss import multilabel_loss
from farfield.training.region_loss import region_loss

S, T = (torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) * 2 for i in (1, 2))


def softmax(row: list[float]) -> list[float]:
    exps = [math.exp(each) for each in row]
    return [each / sum(exps) for each in exps]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def scaled(x: Tensor, row: int, temperature: float) -> list[float]:
    return [each / temperature for each in x[row].tolist()]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_single_label(temperature: float) -> None:
    found = soft_losses(S, T, "single_label", temperature=temperature)
    wanted = [
        temperature**2 * divergence(softmax(scaled(T, i, temperature)), softmax(scaled(S, i, temperature)))
        for i in range(3)
    ]
    assert found.tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_multilabel(temperature: float) -> None:
    found = soft_losses(S, T, "multilabel", temperature=temperature)
    wanted = []
    for i in range(3):
        chances = [[1 / (1 + math.exp(-each)) for each in scaled(x, i, temperature)] for x in (T, S)]
        pairs = [divergence([p, 1 - p], [q, 1 - q]) for p, q in zip(*chances, strict=True)]
        wanted.append(temperature**2 * sum(pairs) / 5)
    assert found.tolist() == pytest.approx(wanted)


def test_multi_head() -> None:
    s, t = (torch.cat([x[:, :2].log_softmax(1), x[:, 2:].log_softmax(1)], 1) for x in (S, T))
    found = soft_losses(s, t, "multi_head", temperature=2, head_sizes=[2, 3])
    wanted = [
        4 * sum(divergence(softmax(scaled(T[:, part], i, 2)), softmax(scaled(S[:, part], i, 2))) for part in PARTS) / 2
        for i in range(3)
    ]
    assert found.tolist() == pytest.approx(wanted)


PARTS = (slice(0, 2), slice(2, 5))


@pytest.mark.parametrize("task", ["single_label", "multilabel", "multi_head"])
def test_gradients(task: Task) -> None:
    """They reach the student alone, are those of finite differences, and vanish where both agree."""
    student, teacher = S.clone().requires_grad_(), T.clone().requires_grad_()
    sizes = [2, 3] if task == "multi_head" else None

    def loss(s: Tensor) -> Tensor:
        return soft_losses(s, teacher, task, temperature=1.7, head_sizes=sizes)

    assert torch.autograd.gradcheck(loss, student)
    loss(student).sum().backward()
    assert teacher.grad is None
    same = T.clone().requires_grad_()
    agreeing = soft_losses(same, T, task, temperature=1.7, head_sizes=sizes)
    agreeing.sum().backward()
    assert agreeing.abs().max() < 1e-12
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-12


def test_the_size_of_gradients_does_not_depend_on_high_temperatures() -> None:
    """Hinton et al., eq. 4: at high temperature the gradient approaches (z - v) / N for zero-mean scores, times T^2."""
    s, t = (x - x.mean(1, keepdim=True) for x in (S, T))
    s = s.requires_grad_()
    soft_losses(s, t, "single_label", temperature=1000).sum().backward()
    assert s.grad is not None
    torch.testing.assert_close(s.grad, ((s - t) / 5).detach(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    extreme = torch.tensor([[80.0, -80.0, 0.0]], dtype=dtype)
    for task in ("single_label", "multilabel"):
        found = soft_losses(extreme, -extreme, task, temperature=1)  # type: ignore[arg-type]
        assert found.dtype == torch.float32
        assert found.isfinite().all()


@pytest.mark.parametrize("task", ["single_label", "multilabel"])
def test_scores_of_probabilities(task: Task) -> None:
    p = class_probabilities(S, task)
    torch.testing.assert_close(class_probabilities(logits_of(p, task), task), p)
    sure = torch.tensor([[1.0, 0.0, 0.0]])
    assert soft_losses(torch.zeros(1, 3), logits_of(sure, task), task, temperature=2).isfinite().all()


def batch(labels: Tensor, mix: Mix | None, is_labelled: Tensor | None) -> Batch:
    empty = torch.empty(0)
    return Batch(empty, labels, torch.arange(len(labels)), Draw(mix=mix), [], None, is_labelled)


LOGITS = torch.randn(4, 5, generator=torch.Generator().manual_seed(7))
LABELS = torch.tensor([1, 3, 0, 2])
IS_LABELLED = torch.tensor([True, True, False, False])
MIX = Mix(torch.tensor([2, 0, 3, 1]), torch.tensor([0.6, 0.7, 0.8, 0.9]), torch.zeros(4, 4, dtype=torch.long))


def test_hard_loss_without_mixing_is_that_of_the_labelled_clips() -> None:
    part, weights = labelled_part(batch(LABELS, None, IS_LABELLED), IS_LABELLED)
    found = classification_loss(LOGITS, part, clip_weights=weights)
    assert found == pytest.approx(float(F.cross_entropy(LOGITS[:2], LABELS[:2], reduction="sum") / 4))


@pytest.mark.parametrize("task", ["single_label", "multilabel", "multi_head"])
def test_hard_loss_of_mixed_clips_counts_the_labelled_parts(task: Task) -> None:
    """Clip 0 is mixed with an unlabelled one, 1 with a labelled one, 2 has no label at all, 3 is mixed with one."""
    logits, sizes = LOGITS, [2, 3]
    one_hot = torch.eye(5)[LABELS]
    if task == "multi_head":
        logits = torch.cat([LOGITS[:, :2].log_softmax(1), LOGITS[:, 2:].log_softmax(1)], 1)
        one_hot = torch.tensor([[1.0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    targets = LABELS if task == "single_label" else one_hot

    def of_one(row: int, label_row: int) -> float:
        x, y = logits[row : row + 1], targets[label_row : label_row + 1]
        if task == "single_label":
            return float(F.cross_entropy(x, y))
        if task == "multilabel":
            return float(F.binary_cross_entropy_with_logits(x, y))
        return float(-(x * y).sum() / 2)

    total = 0.0
    for row in range(4):
        other, share = int(MIX.partner[row]), float(MIX.share[row])
        total += share * of_one(row, row) * bool(IS_LABELLED[row])
        total += (1 - share) * of_one(row, other) * bool(IS_LABELLED[other])
    part, weights = labelled_part(batch(targets, MIX, IS_LABELLED), IS_LABELLED)
    losses = {
        "single_label": lambda: classification_loss(logits, part, clip_weights=weights),
        "multilabel": lambda: multilabel_loss(logits, part, clip_weights=weights),
        "multi_head": lambda: multi_head_loss(logits, part, sizes, clip_weights=weights),
    }
    assert losses[task]().item() == pytest.approx(total / 4, rel=1e-5)


def test_without_unlabelled_clips_nothing_changes() -> None:
    given = batch(LABELS, MIX, None)
    assert labelled_part(given, None) == (given, None)
    all_labelled = torch.ones(4, dtype=torch.bool)
    part, weights = labelled_part(given, all_labelled)
    torch.testing.assert_close(
        classification_loss(LOGITS, part, clip_weights=weights), classification_loss(LOGITS, given)
    )


def test_region_loss_counts_labelled_clips() -> None:
    def found(is_labelled: Tensor) -> float:
        part, weights = labelled_part(batch(LABELS, None, is_labelled), is_labelled)
        return float(region_loss([LOGITS[:, :, None, None, None]], part, weights))

    assert found(IS_LABELLED) == pytest.approx(float(F.cross_entropy(LOGITS[:2], LABELS[:2], reduction="sum") / 4))
    assert found(torch.zeros(4, dtype=torch.bool)) == 0


def test_region_loss_counts_the_labelled_parts_of_mixed_clips() -> None:
    part, weights = labelled_part(batch(LABELS, MIX, IS_LABELLED), IS_LABELLED)
    found = region_loss([LOGITS[:, :, None, None, None]], part, weights)
    torch.testing.assert_close(found, classification_loss(LOGITS, part, clip_weights=weights))
