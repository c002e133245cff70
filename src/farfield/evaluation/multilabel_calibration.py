"""Calibration of a multilabel task: reliability over all pairs of a video and a class, and temperature scaling.

A pair asks: does the video have the class? The probabilities of a video are first aggregated over its views. The n
pairs are binned by the probability of the class. The expected calibration error is

    ECE = sum_B |B| / n |freq(B) - prob(B)|

as in `calibration` (Guo et al., ICML 2017), with pairs in place of predicted classes. The symbols are:
- |B|: number of pairs in bin B
- freq(B): share of these pairs whose video has the class
- prob(B): mean probability of these pairs

Temperature scaling divides the logit of each probability by one number T, which maximises the likelihood of the labels
of videos that the network was not trained on. Scaling changes neither the ranking of videos for a class nor the ranking
of classes for a video.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from farfield.evaluation.calibration import bin_by_probability, find_temperature


@dataclass(frozen=True)
class PairBin:
    """Bin of a reliability diagram: the (video, class) pairs for which the class has a probability in (low, high].

    Attributes:
        low: lower edge of the bin, exclusive, except that a probability of 0 is in the first bin.
        high: upper edge of the bin, inclusive.
        pairs: number of pairs in the bin.
        frequency: share of these pairs whose video has the class.
        probability: mean probability of these pairs.
    """

    low: float
    high: float
    pairs: int
    frequency: float
    probability: float


@dataclass(frozen=True)
class PairCalibration:
    """Calibration of all pairs of a video and a class: reliability bins, expected error and likelihood.

    Attributes:
        bins: non-empty bins, ascending.
        expected_error: expected calibration error (ECE), in [0, 1].
        negative_log_likelihood: mean binary cross entropy of the pairs, in nats.
    """

    bins: list[PairBin]
    expected_error: float
    negative_log_likelihood: float


def pair_calibration(
    probabilities: Float[Tensor, "n classes"], targets: Bool[Tensor, "n classes"], *, num_bins: int = 15
) -> PairCalibration:
    """Measure the calibration of all pairs of a video and a class, over `num_bins` bins of equal width.

    Args:
        probabilities: class probabilities of each video.
        targets: True where the video has the class.
        num_bins: number of bins.

    Raises:
        ValueError: if there are no videos.
    """
    _check(targets)
    bins = [
        PairBin(*each) for each in bin_by_probability(probabilities.double().flatten(), targets.flatten(), num_bins)
    ]
    error = sum(each.pairs / targets.numel() * abs(each.frequency - each.probability) for each in bins)
    loss = F.binary_cross_entropy_with_logits(_logit(probabilities), targets.double())
    return PairCalibration(bins, error, float(loss))


def fit_pair_temperature(probabilities: Float[Tensor, "n classes"], targets: Bool[Tensor, "n classes"]) -> float:
    """Find the temperature T that maximises the likelihood of the targets.

    Args:
        probabilities: class probabilities of each video, without temperature scaling.
        targets: True where the video has the class.

    Raises:
        ValueError: if there are no videos.
    """
    _check(targets)
    logits, has_class = _logit(probabilities), targets.double()
    if not logits.any():
        return 1.0  # probabilities of 1/2 are the same at any temperature
    return find_temperature(lambda factor: (((factor * logits).sigmoid() - has_class) * logits).mean())


def scale_pair_temperature(probabilities: Float[Tensor, "n classes"], temperature: float) -> Float[Tensor, "n classes"]:
    """Rescale probabilities p to sigmoid(logit(p) / T), where T is `temperature`."""
    return (_logit(probabilities) / temperature).sigmoid().to(probabilities.dtype)


def _logit(probabilities: Tensor) -> Tensor:
    return probabilities.double().logit(eps=1e-12)


def _check(targets: Tensor) -> None:
    if not len(targets):
        raise ValueError("no videos were given; calibration needs at least one.")
