"""Accuracy metrics of scored videos, with 95% confidence intervals.

Top-k accuracy is a proportion of n videos; its interval is Wilson's ("Probable inference, the law of succession, and
statistical inference", JASA 1927), which stays inside [0, 1] and has a width above 0 even at accuracies of 0 and 1.

Mean class accuracy is the mean of the top-1 accuracies of the C classes that have videos. Suppose that videos of all
classes were classified correctly with the same probability p. The variance of the mean class accuracy would then be
p (1 - p) / n_eff with n_eff = C^2 / sum_c 1/n_c, where n_c is the number of videos of class c. The interval of the mean
class accuracy is therefore Wilson's interval for n_eff videos instead of n. With balanced classes, n_eff = n, and the
interval equals that of top-1 accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """Proportion in [0, 1] with the bounds of its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f}% [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Metrics:
    """Metrics of one evaluation. `confusion[i][j]` counts videos of class i that were predicted as class j."""

    top1: Estimate
    top5: Estimate
    mean_class_accuracy: Estimate
    confusion: Int[Tensor, "classes classes"]


def wilson(successes: float, n: float, *, confidence: float = 0.95) -> Estimate:
    """Return successes / n with Wilson's score interval. For n = 0, the value is 0 and the interval is [0, 1].

    `confidence` is the confidence level of the interval, between 0 and 1.
    """
    if n == 0:
        return Estimate(0.0, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The bounds are exactly 0 and 1 at the ends; rounding may miss that by an ulp.
    return Estimate(p, 0.0 if p == 0 else max(centre - half, 0.0), 1.0 if p == 1 else min(centre + half, 1.0))


def most_probable(probabilities: Float[Tensor, "n classes"], k: int) -> Int[Tensor, "n k"]:
    """Return the k most probable classes of each video, or all if there are fewer, the most probable first.

    Of equally probable classes, the one with the lower index is first, as for `argmax`. `topk` has no such order.
    """
    return probabilities.argsort(dim=1, descending=True, stable=True)[:, :k]


def measure(probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> Metrics:
    """Compute all metrics of scored videos. Classes without videos are excluded from the mean class accuracy.

    Args:
        probabilities: class probabilities of each video.
        labels: index of each video's true class.
    """
    n, classes = probabilities.shape
    ranking = most_probable(probabilities, 5)
    hits = ranking == labels[:, None]
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    confusion.index_put_((labels, ranking[:, 0]), torch.tensor(1), accumulate=True)
    per_class = confusion.sum(1)
    occurring = per_class > 0
    accuracies = confusion.diagonal()[occurring] / per_class[occurring]
    effective = float(occurring.sum() ** 2 / (1 / per_class[occurring]).sum()) if n else 0.0
    return Metrics(
        top1=wilson(int(hits[:, 0].sum()), n),
        top5=wilson(int(hits.sum()), n),
        mean_class_accuracy=wilson(float(accuracies.mean()) * effective if n else 0.0, effective),
        confusion=confusion,
    )
