"""The rounds of successive halving."""

from __future__ import annotations

import pytest

from farfield.probing.halving import rounds


@pytest.mark.parametrize(
    ("configurations", "steps", "expected"),
    [
        (24, 320, {20: 6, 80: 2}),
        (64, 640, {10: 16, 40: 4, 160: 1}),
        (4, 300, {75: 1}),
        (3, 300, {}),
        (1, 300, {}),
        (24, 8, {2: 2}),  # no round of no steps
    ],
)
def test_rounds(configurations: int, steps: int, expected: dict[int, int]) -> None:
    assert rounds(configurations, steps) == expected


def test_24_configurations_cost_about_as_much_as_4() -> None:
    """Steps of all configurations together, against those of one."""
    before, count, taken = 0, 24, 0
    for step, keep in [*rounds(24, 1600).items(), (1600, 0)]:
        taken += count * (step - before)
        before, count = step, keep
    assert taken / 1600 == 24 / 16 + 6 * 3 / 16 + 2 * 3 / 4 == 4.125
