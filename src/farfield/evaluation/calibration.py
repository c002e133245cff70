"""Calibration: expected calibration error, reliability bins and temperature scaling.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The n videos are binned by the probability of their
predicted class. The expected calibration error (eq. 3) is

    ECE = sum_B |B| / n |acc(B) - conf(B)|

The symbols are:
- |B|: number of videos in bin B
- acc(B): top-1 accuracy of these videos
- conf(B): mean, over these videos, of the probability of the predicted class

Temperature scaling (eq. 9) divides logits by one number T. T maximises the likelihood of the labels of videos that the
network was not trained on. Scaling changes a video's probabilities but not the ranking of its classes. Here a video's
probabilities are first aggregated over its views, and T divides the logarithm of the result, because the result is
reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_TEMPERATURE = 20.0
"""Temperatures are searched in [1 / MAX_TEMPERATURE, MAX_TEMPERATURE].

Without bounds, the best temperature would be 0 if all videos are predicted correctly.
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
    """Calibration of scored videos: reliability bins, expected calibration error and negative log-likelihood.

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

    Args:
        probabilities: class probabilities of each video.
        labels: index of each video's true class.
        num_bins: number of bins.

    Raises:
        ValueError: if there are no videos.
    """
    if not len(labels):
        raise ValueError("no videos were given; measuring calibration needs at least one.")
    confidence, predicted = probabilities.double().max(1)
    bins = [Bin(*each) for each in bin_by_probability(confidence, predicted == labels, num_bins)]
    error = sum(each.videos / len(labels) * abs(each.accuracy - each.confidence) for each in bins)
    return Calibration(bins, error, float(_loss(_log(probabilities), labels)))


def bin_by_probability(
    probabilities: Float[Tensor, " n"], hits: Bool[Tensor, " n"], num_bins: int
) -> list[tuple[float, float, int, float, float]]:
    """Sort probabilities into bins of equal width.

    Args:
        probabilities: predicted probabilities.
        hits: whether each prediction is correct.
        num_bins: number of bins.

    Returns:
        For each non-empty bin: lower edge, upper edge, number of predictions, share of hits, mean probability.
    """
    places = (probabilities * num_bins).ceil().long().clamp(1, num_bins) - 1
    bins = []
    for place in places.unique().tolist():
        inside = places == place
        share, mean = float(hits[inside].double().mean()), float(probabilities[inside].mean())
        bins.append((place / num_bins, (place + 1) / num_bins, int(inside.sum()), share, mean))
    return bins


def fit_temperature(probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """Find the temperature T that maximises the likelihood of the labels.

    Args:
        probabilities: class probabilities of each video, without temperature scaling.
        labels: index of each video's true class.

    Raises:
        ValueError: if there are no videos.
    """
    if not len(labels):
        raise ValueError("no videos were given; fitting a temperature needs at least one.")
    logits = _log(probabilities)
    of_label = logits.gather(1, labels[:, None])[:, 0]
    if not (logits.amax(1) > logits.amin(1)).any():
        return 1.0  # uniform probabilities are the same at any temperature
    return find_temperature(lambda factor: (((factor * logits).softmax(1) * logits).sum(1) - of_label).mean())


def find_temperature(slope: Callable[[float], Tensor]) -> float:
    """Find the temperature T that minimises a loss, by bisection. The loss must be convex in 1 / T.

    Args:
        slope: function of 1 / T that returns the derivative of the loss with respect to 1 / T.
    """
    low, high = 1 / MAX_TEMPERATURE, MAX_TEMPERATURE  # of 1 / T
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / (low * high) ** 0.5


def scale_temperature(probabilities: Float[Tensor, "n classes"], temperature: float) -> Float[Tensor, "n classes"]:
    """Rescale probabilities p to softmax(log(p) / T), where T is `temperature`."""
    return (_log(probabilities) / temperature).softmax(1).to(probabilities.dtype)


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.double().clamp_min(1e-12).log()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, labels)
