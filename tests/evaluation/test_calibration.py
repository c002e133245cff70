from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from farfield.evaluation.calibration import calibration, fit_temperature, scale_temperature


def ece_as_loops(probabilities: Tensor, labels: Tensor, num_bins: int) -> float:
    """Eq. 3 of Guo et al., word by word: bin m holds the videos with confidence in ((m - 1) / M, m / M]."""
    rows = probabilities.double().tolist()
    error = 0.0
    for m in range(1, num_bins + 1):
        right = number = confidence = 0.0
        for row, label in zip(rows, labels.tolist(), strict=True):
            if (m - 1) / num_bins < max(row) <= m / num_bins:
                number += 1
                right += row.index(max(row)) == label
                confidence += max(row)
        if number:
            error += number / len(rows) * abs(right / number - confidence / number)
    return error


def likelihood_loss(temperature: float, probabilities: Tensor, labels: Tensor) -> float:
    """-log softmax(log p / T)[label], mean over videos, as loops."""
    total = 0.0
    for row, label in zip(probabilities.double().tolist(), labels.tolist(), strict=True):
        powers = [value ** (1 / temperature) for value in row]
        total -= math.log(powers[label] / sum(powers))
    return total / len(labels)


@pytest.mark.parametrize("num_bins", [1, 2, 7, 15])
def test_expected_error_is_the_equation(num_bins: int) -> None:
    probabilities = (torch.randn(211, 5) * 2).softmax(1)
    labels = torch.randint(0, 5, (211,))
    ours = calibration(probabilities, labels, num_bins=num_bins)
    assert ours.expected_error == pytest.approx(ece_as_loops(probabilities, labels, num_bins), abs=1e-12)
    assert sum(each.videos for each in ours.bins) == 211
    assert all(each.videos and each.low < each.confidence <= each.high for each in ours.bins)
    assert [each.low for each in ours.bins] == sorted({each.low for each in ours.bins})
    right = sum(each.videos * each.accuracy for each in ours.bins)
    assert right == pytest.approx(int((probabilities.argmax(1) == labels).sum()))


def test_a_bin_holds_its_upper_end_and_not_its_lower() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.75, 0.125, 0.125], [1.0, 0.0, 0.0]])
    bins = calibration(probabilities, torch.tensor([0, 1, 0]), num_bins=4).bins
    assert [(each.low, each.high, each.accuracy) for each in bins] == [(0.25, 0.5, 1), (0.5, 0.75, 0), (0.75, 1, 1)]


def test_the_likelihood_is_torchs_cross_entropy() -> None:
    logits, labels = torch.randn(101, 7).double() * 3, torch.randint(0, 7, (101,))
    ours = calibration(logits.softmax(1), labels).negative_log_likelihood
    assert ours == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-9)
    certainly_wrong = calibration(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert 20 < certainly_wrong.negative_log_likelihood < 40  # a probability of 0 is bounded, not infinitely wrong


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_is_where_another_optimiser_finds_it(sharpness: float) -> None:
    logits = torch.randn(83, 5, dtype=torch.float64)
    labels = torch.distributions.Categorical(logits=logits).sample()
    probabilities = (logits * sharpness).softmax(1)
    found = minimize_scalar(
        likelihood_loss, bounds=(0.05, 20), args=(probabilities, labels), method="bounded", options={"xatol": 1e-7}
    )
    assert fit_temperature(probabilities, labels) == pytest.approx(found.x, rel=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits = torch.randn(20_011, 7) * 3
    labels = torch.distributions.Categorical(logits=logits / temperature).sample()
    probabilities = logits.softmax(1)
    fitted = fit_temperature(probabilities, labels)
    assert fitted == pytest.approx(temperature, rel=0.05)
    scaled = scale_temperature(probabilities, fitted)
    torch.testing.assert_close(scaled, (logits / fitted).softmax(1), atol=1e-4, rtol=0)
    assert calibration(scaled, labels).expected_error < 0.015
    if temperature != 1:
        assert calibration(probabilities, labels).expected_error > 0.05


@pytest.mark.parametrize("temperature", [0.5, 0.9, 4.0])
def test_a_temperature_changes_no_ranking(temperature: float) -> None:
    probabilities = torch.randn(53, 11).softmax(1)
    scaled = scale_temperature(probabilities, temperature)
    assert torch.equal(scaled.argsort(1), probabilities.argsort(1))
    torch.testing.assert_close(scaled.sum(1), torch.ones(53))
    assert scaled.dtype == probabilities.dtype
    sharper = scaled.amax(1) > probabilities.amax(1)
    assert sharper.all() if temperature < 1 else not sharper.any()


def test_temperature_one_changes_nothing() -> None:
    probabilities = torch.randn(13, 7).softmax(1)
    torch.testing.assert_close(scale_temperature(probabilities, 1.0), probabilities)


@pytest.mark.parametrize("classes", [2, 5, 101])
def test_where_all_are_right_or_wrong_the_temperature_is_at_its_bounds(classes: int) -> None:
    probabilities = (torch.randn(37, classes) * 3).softmax(1)
    assert fit_temperature(probabilities, probabilities.argmax(1)) == pytest.approx(1 / 20)
    assert fit_temperature(probabilities, probabilities.argmin(1)) == pytest.approx(20)
    certain = torch.eye(classes)
    assert fit_temperature(certain, torch.arange(classes)) == pytest.approx(1 / 20)


def test_a_calibrated_predictor_has_little_error_and_an_overconfident_one_much() -> None:
    """Labels are drawn from the very probabilities; then from flatter ones."""
    probabilities = (torch.randn(20_011, 5) * 2).softmax(1)
    labels = torch.distributions.Categorical(probabilities).sample()
    assert calibration(probabilities, labels).expected_error < 0.015
    guesses = torch.randint(0, 5, (20_011,))
    measured = calibration(probabilities, guesses).expected_error
    assert measured == pytest.approx(float(probabilities.amax(1).mean()) - 0.2, abs=0.015)


def test_no_videos_are_refused() -> None:
    nothing, labels = torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^no videos were given; measuring calibration needs at least one\.$"):
        calibration(nothing, labels)
    with pytest.raises(ValueError, match=r"^no videos were given; fitting a temperature needs at least one\.$"):
        fit_temperature(nothing, labels)
