"""Successive halving: choose a probe head's configuration from a grid by a short training on coarse feature maps.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016. A
search runs before the training, for a fifth of the training's steps, and is divided into rounds. After each round but
the last, only the best quarter of the configurations, rounded up, is trained further. Each round ends at four times the
step at which the previous round ended, so that all rounds take about the same time. The best configuration at the end
of the search is then trained from the initial weights, on whole feature maps and for all steps. With 24
configurations, and with the steps of the search as fractions of the training's steps:

    search, steps 0 to 1/20             24 configurations, coarse maps
    search, steps 1/20 to 1/5            6 configurations, coarse maps
    training                             1 configuration, whole maps, all steps

Summed over all configurations, this search has 2.1 times the steps of the training (24/20 + 6 (1/5 - 1/20)), but each
step sees an eighth of the positions: coarse maps are average-pooled to half of their length, height and width.
"""

from __future__ import annotations

RATE = 4
"""Factor by which each round reduces the number of configurations."""
SEARCH = 5
"""Ratio of the number of training steps to the number of search steps."""


def search_steps(num_steps: int) -> int:
    """Return the number of steps of the search that precedes a training of `num_steps` steps."""
    return num_steps // SEARCH


def rounds(num_configurations: int, num_steps: int) -> dict[int, int]:
    """Return when a search drops configurations: {last step of a round: number of configurations kept after it}.

    The last round is not in the result.

    Args:
        num_configurations: number of configurations at the start.
        num_steps: number of steps of the search.
    """
    count = 0
    while RATE ** (count + 2) <= num_configurations:
        count += 1
    ends = {num_steps // RATE ** (count - done): -(-num_configurations // RATE ** (done + 1)) for done in range(count)}
    return {step: keep for step, keep in ends.items() if step > 0}
