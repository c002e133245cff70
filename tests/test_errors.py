"""Hints in error messages."""

from __future__ import annotations

from farfield.errors import nearest


def test_nearest() -> None:
    assert nearest("tinny", ["tiny", "slow"]) == "Known: tiny, slow. Did you mean 'tiny'?"
    assert nearest("x", ["tiny", "slow"]) == "Known: tiny, slow."
    assert nearest("x", []) == "There are none."
    assert nearest("class 7", [f"class {i}" for i in range(40)]) == "Did you mean 'class 7'?"
