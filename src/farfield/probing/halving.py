"""Successive halving: drop the configurations of a grid that are behind, before they are trained to the end.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016. The
best quarter of k configurations goes on from each round to the next, and all steps of a round are four times those
until its beginning: every round costs about the same, and the last configurations are trained to the end. With k = 24:

    until 1/16 of the steps     24 configurations
    until 1/4                    6
    to the end                   2          together 4.1 times the steps of one configuration
"""

from __future__ import annotations

RATE = 4
"""One of so many configurations goes on."""


def rounds(num_configurations: int, num_steps: int) -> dict[int, int]:
    """Return the ends of the rounds but the last: number of steps taken -> number of configurations that go on."""
    count = 0
    while RATE ** (count + 1) <= num_configurations:
        count += 1
    ends = {num_steps // RATE ** (count - done): -(-num_configurations // RATE ** (done + 1)) for done in range(count)}
    return {step: keep for step, keep in ends.items() if step > 0}
