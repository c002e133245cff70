"""Does a probability of 70% mean that 70% are right? Reliability, and the temperature that mends it.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Videos are put into bins by the probability of the
class that they are taken for. In bin B of n videos, acc(B) are right and conf(B) is the mean probability; the
expected calibration error (eq. 3) is

    ECE = sum_B |B| / n |acc(B) - conf(B)|

Temperature scaling (eq. 9) divides logits by one number T, chosen by the likelihood of videos that the network was not
trained on. It changes probabilities and no ranking. Here it divides the logarithm of the probabilities that views
were averaged to, so that what is calibrated is what is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

HOTTEST = 20.0
"""Temperatures are looked for in [1 / HOTTEST, HOTTEST]; where all videos are right, the likelihood has no maximum."""


@dataclass(frozen=True)
class Bin:
    """Videos whose probability lies in (low, high].

    Attributes:
        low: of the bin, as `high`.
        high: see `low`.
        videos: how many.
        accuracy: share of them that are right.
        confidence: mean probability.
    """

    low: float
    high: float
    videos: int
    accuracy: float
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """How well probabilities say how often they are right.

    Attributes:
        bins: those with videos, ascending.
        expected_error: ECE, in [0, 1].
        negative_log_likelihood: of the true classes, mean over the videos, in nats.
    """

    bins: list[Bin]
    expected_error: float
    negative_log_likelihood: float


def calibration(
    probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], *, num_bins: int = 15
) -> Calibration:
    """Measures calibration over `num_bins` bins of equal width.

    Raises:
        ValueError: for no videos.
    """
    if not len(labels):
        raise ValueError("there are no videos to measure calibration on.")
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
    """The temperature T under which the labels are likeliest.

    The loss is convex in 1 / T, and its slope is bisected.

    Raises:
        ValueError: for no videos.
    """
    if not len(labels):
        raise ValueError("there are no videos to fit a temperature on.")
    logits = _log(probabilities)
    of_label = logits.gather(1, labels[:, None])[:, 0]
    if not (logits.amax(1) > logits.amin(1)).any():
        return 1.0  # uniform probabilities stay so at any temperature
    low, high = 1 / HOTTEST, HOTTEST  # of 1 / T
    for _ in range(60):
        middle = (low * high) ** 0.5
        slope = (((middle * logits).softmax(1) * logits).sum(1) - of_label).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 1 / (low * high) ** 0.5


def scale_temperature(probabilities: Float[Tensor, "n classes"], temperature: float) -> Float[Tensor, "n classes"]:
    """softmax(log(p) / T)."""
    return (_log(probabilities) / temperature).softmax(1).to(probabilities.dtype)


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.double().clamp_min(1e-12).log()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, labels)
