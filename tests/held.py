"""How many frames are held at once by whoever walks through a video's windows."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest

from farfield.timelines import sliding_windows


class Held:
    """Attributes: most: so many cut frames were alive at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        alive: weakref.WeakSet = weakref.WeakSet()
        cut = sliding_windows._crop

        def watched(*args: object) -> Iterator:
            for place, crops in cut(*args):  # type: ignore[arg-type]
                alive.add(crops)
                self.most = max(self.most, len(alive))
                yield place, crops
                del crops

        monkeypatch.setattr(sliding_windows, "_crop", watched)
