"""Successive halving: drop the worst configurations of a grid before they are trained to the end.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016. After
each round, the best quarter of the configurations, rounded up, goes on. Counted from the start of the training, a round
ends after four times as many steps as the previous round, so that all rounds cost about the same. The configurations of
the last round are trained to the end. With 24 configurations:

    until 1/16 of the steps     24 configurations
    until 1/4 of the steps       6 configurations
    to the end                   2 configurations

Together, these are 4.1 times the steps of one configuration.
"""

from __future__ import annotations

RATE = 4
"""Factor by which each round reduces the number of configurations."""


def rounds(num_configurations: int, num_steps: int) -> dict[int, int]:
    """Return the end of each round except the last: {number of steps taken: number of configurations that go on}."""
    count = 0
    while RATE ** (count + 1) <= num_configurations:
        count += 1
    ends = {num_steps // RATE ** (count - done): -(-num_configurations // RATE ** (done + 1)) for done in range(count)}
    return {step: keep for step, keep in ends.items() if step > 0}
