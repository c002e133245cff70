"""The rounds of successive halving."""

from __future__ import annotations

import pytest

from farfield.probing.halving import rounds, search_steps


@pytest.mark.parametrize(
    ("configurations", "steps", "expected"),
    [
        (24, 80, {20: 6}),
        (64, 160, {10: 16, 40: 4}),
        (16, 75, {18: 4}),
        (15, 75, {}),
        (1, 75, {}),
        (64, 8, {2: 4}),  # no round of no steps
    ],
)
def test_rounds(configurations: int, steps: int, expected: dict[int, int]) -> None:
    assert rounds(configurations, steps) == expected


def test_a_search_among_24_configurations_takes_2_1_times_the_steps_of_a_training() -> None:
    before, count, taken = 0, 24, 0
    for step, keep in [*rounds(24, search_steps(1600)).items(), (search_steps(1600), 0)]:
        taken += count * (step - before)
        before, count = step, keep
    assert taken / 1600 == pytest.approx(24 / 20 + 6 * 3 / 20)
