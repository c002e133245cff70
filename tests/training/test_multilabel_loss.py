"""The multilabel loss against torch, torchvision's focal loss, and slow loops in float64."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from farfield.data.augmentation import Draw, Mix
from farfield.errors import FarfieldError
from farfield.training.class_weights import compute_pos_weight
from farfield.training.loss import LossSettings
from farfield.training.multilabel_loss import multilabel_loss

CLIPS, CLASSES = 6, 4
TARGETS = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]).float()
SHARES = TARGETS * torch.linspace(0.05, 1, CLIPS * CLASSES).view(CLIPS, CLASSES)
"""Targets of clips of untrimmed videos."""
POS_WEIGHT = torch.tensor([0.5, 3.0, 1.5, 7.0], dtype=torch.float64)
MIX = Mix(
    torch.tensor([3, 5, 2, 0, 1, 4]),
    torch.tensor([0.7, 0.9, 0.6, 1.0, 0.5, 0.8], dtype=torch.float64),
    torch.zeros(CLIPS, 4, dtype=torch.int64),
)


def some_logits() -> Tensor:
    return 3 * torch.randn(CLIPS, CLASSES, dtype=torch.float64)


def batch_of(mix: Mix | None = None, targets: Tensor = TARGETS) -> Any:
    return SimpleNamespace(labels=targets, draw=Draw(mix=mix))


def slow_loss(
    logits: Tensor, *, gamma: float, weights: Tensor | None, smoothing: float, mix: Mix | None, targets: Tensor
) -> float:
    """Average the loss over clips and classes, one number at a time."""
    total = 0.0
    for i, c in itertools.product(range(CLIPS), range(CLASSES)):
        t = float(targets[i, c])
        if mix is not None:
            share = float(mix.share[i])
            t = share * t + (1 - share) * float(targets[int(mix.partner[i]), c])
        t = (1 - smoothing) * t + smoothing / 2
        p = 1 / (1 + math.exp(-float(logits[i, c])))
        w = 1.0 if weights is None else float(weights[c])
        of_target = p * t + (1 - p) * (1 - t)
        total += (1 - of_target) ** gamma * -(w * t * math.log(p) + (1 - t) * math.log(1 - p))
    return total / (CLIPS * CLASSES)


@pytest.mark.parametrize(
    ("gamma", "weights", "smoothing", "mix", "targets"),
    list(itertools.product([0.0, 0.5, 2.0], [None, POS_WEIGHT], [0.0, 0.1], [None, MIX], [TARGETS, SHARES])),
)
def test_the_loss_equals_slow_loops(
    gamma: float, weights: Tensor | None, smoothing: float, mix: Mix | None, targets: Tensor
) -> None:
    logits = some_logits()
    loss = multilabel_loss(
        logits, batch_of(mix, targets), label_smoothing=smoothing, pos_weight=weights, focal_gamma=gamma
    )
    expected = slow_loss(logits, gamma=gamma, weights=weights, smoothing=smoothing, mix=mix, targets=targets)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.7])
def test_the_focal_loss_and_its_gradient_equal_those_of_torchvision(gamma: float) -> None:
    logits = [some_logits().requires_grad_()]
    logits.append(logits[0].detach().clone().requires_grad_())
    ours = multilabel_loss(logits[0], batch_of(), focal_gamma=gamma)
    theirs = sigmoid_focal_loss(logits[1], TARGETS.double(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(logits[0].grad, logits[1].grad)


def test_gradients_are_finite_where_the_sigmoid_is_exactly_0_or_1() -> None:
    logits = torch.full((CLIPS, CLASSES), 200.0)
    logits[::2] = -200
    for gamma in (0.5, 1.0, 2.0):
        given = logits.clone().requires_grad_()
        multilabel_loss(given, batch_of(), focal_gamma=gamma).backward()
        assert given.grad is not None
        assert given.grad.isfinite().all()


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = some_logits().bfloat16()
    loss = multilabel_loss(logits, batch_of())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits.float(), TARGETS))


def test_balanced_weights_make_positives_and_negatives_count_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "farfield")
    weights = compute_pos_weight(LossSettings(pos_weight="balanced"), list("abcd"), [1, 5, 0, 10], 10)
    assert weights is not None
    assert weights.tolist() == [9, 1, 1, 1]
    assert "a 9 (1 of 10 videos)" in caplog.text
    assert compute_pos_weight(LossSettings(), list("ab"), [1, 5], 10) is None


def test_weights_are_given_as_a_number_or_by_name() -> None:
    found = [compute_pos_weight(LossSettings(pos_weight=given), ["7", "b"], None, None) for given in (2.5, {7: 3})]
    assert [each.tolist() for each in found if each is not None] == [[2.5, 2.5], [3, 1]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"c": 2.0}, r"loss.pos_weight has a weight for 'c', which is not a class"),
        ("balanced", r"loss.pos_weight is 'balanced', but class_counts or num_training_videos is not set"),
    ],
)
def test_weights_that_cannot_be_computed_are_refused(given: Any, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        compute_pos_weight(LossSettings(pos_weight=given), ["a", "b"], None, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0.0, r"loss.pos_weight is 0.0; it must be a number above 0"),
        (math.inf, r"loss.pos_weight is inf; it must be a number above 0"),
        ({"a": -1.0}, r"loss.pos_weight has the weight -1.0 for 'a'"),
    ],
)
def test_weights_that_are_not_above_0_are_refused(given: Any, message: str) -> None:
    with pytest.raises(FarfieldError, match=message):
        LossSettings(pos_weight=given)
