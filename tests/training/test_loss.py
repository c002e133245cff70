"""The training loss against torch's cross entropy and against slow loops in float64."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.data.augmentation import Draw, Mix
from farfield.errors import FarfieldError
from farfield.training.loss import LossSettings, classification_loss, focal_loss

CLIPS, CLASSES = 7, 5
LABELS = torch.tensor([4, 0, 1, 1, 3, 2, 0])
WEIGHTS = torch.tensor([0.5, 3.0, 1.5, 0.25, 7.0], dtype=torch.float64)
MIX = Mix(
    torch.tensor([3, 5, 2, 0, 1, 6, 4]),
    torch.tensor([0.7, 0.9, 0.6, 1.0, 0.5, 0.8, 0.55], dtype=torch.float64),
    torch.zeros(CLIPS, 4, dtype=torch.int64),
)


def some_logits() -> Tensor:
    return 3 * torch.randn(CLIPS, CLASSES, dtype=torch.float64)


def batch_of(mix: Mix | None) -> Any:
    return SimpleNamespace(labels=LABELS, draw=Draw(mix=mix))


def slow_loss(logits: Tensor, *, gamma: float, weights: Tensor | None, smoothing: float, mix: Mix | None) -> float:
    """Sum the loss over clips and classes, one number at a time."""
    total = 0.0
    for i, row in enumerate(logits.tolist()):
        target = [0.0] * CLASSES
        share = 1.0 if mix is None else float(mix.share[i])
        target[int(LABELS[i])] += share
        if mix is not None:
            target[int(LABELS[mix.partner[i]])] += 1 - share
        scale = sum(math.exp(each) for each in row)
        for c in range(CLASSES):
            q = (1 - smoothing) * target[c] + smoothing / CLASSES
            p = math.exp(row[c]) / scale
            weight = 1.0 if weights is None else float(weights[c])
            total -= weight * q * (1 - p) ** gamma * math.log(p)
    return total / CLIPS


@pytest.mark.parametrize(
    ("gamma", "weights", "smoothing", "mix"),
    list(itertools.product([0.0, 0.5, 2.0, 3.7], [None, WEIGHTS], [0.0, 0.1], [None, MIX])),
)
def test_loss_equals_slow_loops(gamma: float, weights: Tensor | None, smoothing: float, mix: Mix | None) -> None:
    logits = some_logits()
    found = classification_loss(
        logits, batch_of(mix), label_smoothing=smoothing, class_weights=weights, focal_gamma=gamma
    )
    expected = slow_loss(logits, gamma=gamma, weights=weights, smoothing=smoothing, mix=mix)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_loss_equals_torchs_with_mixed_targets(smoothing: float) -> None:
    """With probabilities as targets, torch divides by the number of clips, as we do."""
    logits = some_logits()
    one_hot = F.one_hot(LABELS, CLASSES).double()
    soft = MIX.share[:, None] * one_hot + (1 - MIX.share[:, None]) * one_hot[MIX.partner]
    expected = F.cross_entropy(logits, soft, weight=WEIGHTS, label_smoothing=smoothing)
    found = classification_loss(logits, batch_of(MIX), label_smoothing=smoothing, class_weights=WEIGHTS)
    torch.testing.assert_close(found, expected)


def test_weighted_loss_over_all_videos_equals_torchs_mean_if_the_mean_weight_is_1() -> None:
    logits, weights = some_logits(), WEIGHTS / WEIGHTS[LABELS].mean()
    found = classification_loss(logits, batch_of(None), class_weights=weights)
    torch.testing.assert_close(found, F.cross_entropy(logits, LABELS, weight=WEIGHTS))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_loss_without_focus_is_torchs_cross_entropy(smoothing: float) -> None:
    logits = some_logits()
    found = focal_loss(logits, LABELS, gamma=0.0, weight=WEIGHTS, label_smoothing=smoothing)
    expected = F.cross_entropy(logits, LABELS, weight=WEIGHTS, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(found, expected)


def test_focal_loss_of_two_classes_is_torchvisions_on_the_difference_of_the_logits() -> None:
    """The softmax of two logits is the sigmoid of their difference."""
    ops = pytest.importorskip("torchvision.ops")
    logits, labels = torch.randn(11, 2, dtype=torch.float64), torch.randint(2, (11,))
    expected = ops.sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.double(), alpha=0.3, gamma=2.0)
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
    torch.testing.assert_close(focal_loss(logits, labels, gamma=2.0, weight=weights), expected)


@pytest.mark.parametrize(("gamma", "mix"), list(itertools.product([0.0, 0.5, 1.0, 2.0], [None, MIX])))
def test_gradient_is_that_of_finite_differences(gamma: float, mix: Mix | None) -> None:
    def loss(logits: Tensor) -> Tensor:
        return classification_loss(logits, batch_of(mix), label_smoothing=0.1, class_weights=WEIGHTS, focal_gamma=gamma)

    assert torch.autograd.gradcheck(loss, (some_logits().requires_grad_(),))


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_loss_of_a_certain_prediction_has_a_finite_gradient(gamma: float, smoothing: float) -> None:
    """In float32, the probability of the first class is exactly 1 and the others' are 0."""
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    losses = focal_loss(logits, torch.tensor([0, 0]), gamma=gamma, label_smoothing=smoothing)
    losses.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all(), logits.grad
    if not smoothing:
        assert losses.tolist() == [0.0, 200.0]
        torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0, 0], [-1, 1, 0]]))


def test_focal_loss_is_computed_in_float32() -> None:
    logits = some_logits().bfloat16()
    found = focal_loss(logits, LABELS, gamma=2.0, weight=WEIGHTS.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, focal_loss(logits.double(), LABELS, gamma=2.0, weight=WEIGHTS).float())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effective_beta": 1.0}, r"loss.effective_beta is 1.0; it must be at least 0 and below 1"),
        ({"focal_gamma": -1.0}, r"loss.focal_gamma is -1.0; it must be a number of at least 0"),
        ({"focal_gamma": math.nan}, r"loss.focal_gamma is nan"),
        ({"class_weights": {"fall": 0.0}}, r"weight 0.0 for 'fall'; it must be a number above 0"),
        ({"class_weights": {"fall": math.inf}}, r"weight inf for 'fall'"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        LossSettings(**arguments)
