"""Calibration: expected calibration error, reliability bins and temperature scaling.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The n videos are binned by the probability of their
predicted class. acc(B) is the accuracy in bin B, conf(B) the mean probability; the expected calibration error (eq. 3)
is

    ECE = sum_B |B| / n |acc(B) - conf(B)|

Temperature scaling (eq. 9) divides logits by one number T. T maximises the likelihood of the labels of videos that the
network was not trained on. Scaling changes probabilities but not rankings. Here T divides the logarithm of the
probabilities averaged over views, because the reported probabilities are these averages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

MAX_TEMPERATURE = 20.0
"""Temperatures are searched in [1 / MAX_TEMPERATURE, MAX_TEMPERATURE].

Without bounds, the best temperature would be 0 when all videos are predicted correctly.
"""


@dataclass(frozen=True)
class Bin:
    """Bin of a reliability diagram: videos whose top-1 probability lies in (low, high].

    Attributes:
        low: lower edge of the bin, exclusive.
        high: upper edge of the bin, inclusive.
        videos: number of videos in the bin.
        accuracy: top-1 accuracy of these videos, in [0, 1].
        confidence: mean top-1 probability of these videos.
    """

    low: float
    high: float
    videos: int
    accuracy: float
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """Calibration of a set of scored videos.

    Attributes:
        bins: non-empty bins, ascending.
        expected_error: expected calibration error (ECE), in [0, 1].
        negative_log_likelihood: mean negative log-likelihood of the true classes, in nats.
    """

    bins: list[Bin]
    expected_error: float
    negative_log_likelihood: float


def calibration(
    probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], *, num_bins: int = 15
) -> Calibration:
    """Measure calibration over `num_bins` bins of equal width.

    Raises:
        ValueError: if there are no videos.
    """
    if not len(labels):
        raise ValueError("no videos were given; measuring calibration needs at least one.")
    confidence, predicted = probabilities.double().max(1)
    right = (predicted == labels).double()
    places = (confidence * num_bins).ceil().long().clamp(1, num_bins) - 1
    bins, error = [], 0.0
    for place in places.unique().tolist():
        inside = places == place
        accuracy, mean = float(right[inside].mean()), float(confidence[inside].mean())
        bins.append(Bin(place / num_bins, (place + 1) / num_bins, int(inside.sum()), accuracy, mean))
        error += bins[-1].videos / len(labels) * abs(accuracy - mean)
    return Calibration(bins, error, float(_loss(_log(probabilities), labels)))


def fit_temperature(probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """Find the temperature T that maximises the likelihood of the labels.

    The loss is convex in 1 / T, so the root of its slope is found by bisection.

    Raises:
        ValueError: if there are no videos.
    """
    if not len(labels):
        raise ValueError("no videos were given; fitting a temperature needs at least one.")
    logits = _log(probabilities)
    of_label = logits.gather(1, labels[:, None])[:, 0]
    if not (logits.amax(1) > logits.amin(1)).any():
        return 1.0  # uniform probabilities are the same at any temperature
    low, high = 1 / MAX_TEMPERATURE, MAX_TEMPERATURE  # of 1 / T
    for _ in range(60):
        middle = (low * high) ** 0.5
        slope = (((middle * logits).softmax(1) * logits).sum(1) - of_label).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 1 / (low * high) ** 0.5


def scale_temperature(probabilities: Float[Tensor, "n classes"], temperature: float) -> Float[Tensor, "n classes"]:
    """Rescale probabilities p to softmax(log(p) / T)."""
    return (_log(probabilities) / temperature).softmax(1).to(probabilities.dtype)


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.double().clamp_min(1e-12).log()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, labels)
