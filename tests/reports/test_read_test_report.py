from __future__ import annotations

from farfield.reports.read_test_report import _shortened


def test_long_values_are_cut_to_eighty_characters() -> None:
    assert _shortened("a" * 79) == "a" * 79
    assert _shortened("ab" * 40) == "ab" * 38 + "a..."
    assert len(_shortened(list(range(99)))) == 80
