"""Calibration of pairs of a video and a class, against loops, scikit-learn and scipy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error

from evaluation.test_resampling import KINDS, scored
from farfield.evaluation.multilabel_calibration import (
    fit_pair_temperature,
    pair_calibration,
    scale_pair_temperature,
)


def loss_as_loops(temperature: float, probabilities: Tensor, targets: Tensor) -> float:
    """Mean of -log sigmoid(logit p / T) of the positives and -log(1 - sigmoid) of the negatives."""
    total = 0.0
    for p, has in zip(probabilities.double().flatten().tolist(), targets.flatten().tolist(), strict=True):
        scaled = 1 / (1 + math.exp(-math.log(p / (1 - p)) / temperature))
        total -= math.log(scaled if has else 1 - scaled)
    return total / targets.numel()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_expected_error_is_the_equation(kind: str, num_bins: int) -> None:
    probabilities, targets = scored(kind)
    ours = pair_calibration(probabilities, targets, num_bins=num_bins)
    error, pairs = 0.0, list(zip(probabilities.flatten().tolist(), targets.flatten().tolist(), strict=True))
    for m in range(num_bins):
        inside = [(p, has) for p, has in pairs if m / num_bins < p <= (m + 1) / num_bins or p == m == 0]
        if inside:
            error += abs(sum(has for _, has in inside) - sum(p for p, _ in inside)) / len(pairs)
    assert ours.expected_error == pytest.approx(error, abs=1e-12)
    assert sum(each.pairs for each in ours.bins) == 53 * 5
    assert all(each.low <= each.probability <= each.high for each in ours.bins)
    assert sum(each.pairs * each.frequency for each in ours.bins) == pytest.approx(int(targets.sum()))


def test_without_scores_on_edges_the_error_is_torchmetrics() -> None:
    """torchmetrics takes the confidence of the predicted answer; for p >= 1/2 that is the probability of the class."""
    probabilities, targets = torch.rand(211, 3) / 2 + 0.5, torch.rand(211, 3) < 0.7
    theirs = binary_calibration_error(probabilities.flatten(), targets.flatten().long(), n_bins=20, norm="l1")
    assert pair_calibration(probabilities, targets, num_bins=20).expected_error == pytest.approx(
        theirs.item(), abs=1e-5
    )


def test_likelihood_is_scikit_learns() -> None:
    probabilities, targets = scored("random")
    theirs = log_loss(targets.flatten().numpy(), probabilities.double().flatten().numpy())
    assert pair_calibration(probabilities, targets).negative_log_likelihood == pytest.approx(theirs, abs=1e-9)


def test_a_probability_of_0_is_in_the_first_bin() -> None:
    found = pair_calibration(torch.tensor([[0.0, 1.0]]), torch.tensor([[False, True]]), num_bins=5)
    assert [(each.low, each.high, each.pairs, each.frequency) for each in found.bins] == [
        (0, 0.2, 1, 0),
        (0.8, 1, 1, 1),
    ]
    assert (found.expected_error, found.negative_log_likelihood) == pytest.approx((0, 0), abs=1e-9)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_is_the_most_likely_one(sharpness: float) -> None:
    probabilities, targets = scored("random")
    probabilities = (probabilities.double().logit() * sharpness).sigmoid()
    found = fit_pair_temperature(probabilities, targets)
    theirs = minimize_scalar(loss_as_loops, bounds=(0.05, 20), args=(probabilities, targets), method="bounded").x
    assert found == pytest.approx(theirs, rel=1e-3)
    scaled = pair_calibration(scale_pair_temperature(probabilities, found), targets)
    assert scaled.negative_log_likelihood == pytest.approx(loss_as_loops(found, probabilities, targets), abs=1e-9)
    assert scaled.negative_log_likelihood <= pair_calibration(probabilities, targets).negative_log_likelihood


def test_temperatures_are_bounded_and_extremes_are_finite() -> None:
    assert fit_pair_temperature(torch.full((7, 3), 0.5), torch.rand(7, 3) < 0.5) == 1.0
    certain = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    right = torch.tensor([[True, False], [True, False]])
    assert fit_pair_temperature(certain, right) == pytest.approx(1 / 20)
    assert fit_pair_temperature(certain, ~right) == pytest.approx(20)
    assert scale_pair_temperature(certain, 3.0).isfinite().all()


def test_scaling_keeps_every_order_and_one_half() -> None:
    probabilities = torch.rand(53, 5)
    scaled = scale_pair_temperature(probabilities, 2.5)
    assert torch.equal(scaled.flatten().argsort(), probabilities.flatten().argsort())
    assert torch.equal(scaled >= 0.5, probabilities >= 0.5)


def test_no_videos_are_refused() -> None:
    for measure in (pair_calibration, fit_pair_temperature):
        with pytest.raises(ValueError, match=r"no videos were given; calibration needs at least one\."):
            measure(torch.rand(0, 3), torch.zeros(0, 3, dtype=torch.bool))
