"""Successive halving: choose a probe head's configuration from a grid by a short training on coarse feature maps.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016. A search
precedes the training, and has a fifth of its steps. After each round of the search, the best quarter of the
configurations, rounded up, goes on. Counted from the start, a round ends after four times as many steps as the previous
round, so that all rounds cost about the same. The best configuration at the end of the search is then trained from the
initial weights, on whole feature maps and with all steps. With 24 configurations:

    search, until 1/20 of the steps     24 configurations, coarse maps
    search, until 1/5 of the steps       6 configurations, coarse maps
    training                             1 configuration, whole maps, all steps

The search has 2.1 times the steps of the training, each on an eighth of the positions: coarse maps are average-pooled
to half of their length, height and width.
"""

from __future__ import annotations

RATE = 4
"""Factor by which each round reduces the number of configurations."""
SEARCH = 5
"""Number of steps of a training for each step of its search."""


def search_steps(num_steps: int) -> int:
    """Return the number of steps of a search for a training of `num_steps` steps."""
    return num_steps // SEARCH


def rounds(num_configurations: int, num_steps: int) -> dict[int, int]:
    """Return the end of each round of a search except the last: {step: number of configurations that go on}.

    Args:
        num_configurations: number of configurations at the start.
        num_steps: number of steps of the search.
    """
    count = 0
    while RATE ** (count + 2) <= num_configurations:
        count += 1
    ends = {num_steps // RATE ** (count - done): -(-num_configurations // RATE ** (done + 1)) for done in range(count)}
    return {step: keep for step, keep in ends.items() if step > 0}
