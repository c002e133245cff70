"""A marker for tests that nothing in a file is called: what it would leave is a line in a list."""

from __future__ import annotations

from collections.abc import Callable

CALLED: list[str] = []
"""Names of the markers that were set in this process."""


def set_marker(name: str) -> None:
    CALLED.append(name)


class SetsMarker:
    """Pickled, it is a call of `set_marker`, which is on no list of what a file may call."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return set_marker, (self.name,)
