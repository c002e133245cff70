"""Progress bars on standard error, and the switch that turns them off.

Lightning's own bars are not here. It shows them while it trains a network (`training/train.py`) or scores the videos of
a manifest (`evaluation/manifest_scores.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

_SHOWN = ContextVar("progress_bars_shown", default=True)


@contextmanager
def progress_bars(shown: bool) -> Iterator[None]:
    """Show or hide the progress bars in the `with` block. A nested block cannot show bars that an outer block hides."""
    token = _SHOWN.set(shown and _SHOWN.get())
    try:
        yield
    finally:
        _SHOWN.reset(token)


def progress_bars_shown() -> bool:
    """Return whether the enclosing `progress_bars` blocks show progress bars; True outside of such blocks."""
    return _SHOWN.get()


class ProgressBar(tqdm):
    """tqdm's progress bar, hidden inside a `progress_bars(False)` block. The arguments are tqdm's."""

    def __init__(self, *args: Any, disable: bool | None = False, **kwargs: Any) -> None:
        super().__init__(*args, disable=disable if _SHOWN.get() else True, **kwargs)


def bar_to(bar: ProgressBar, done: int, total: int) -> None:
    """Set a progress bar to `done` of `total` steps."""
    bar.total = total
    bar.update(done - bar.n)


class VideoBars:
    """Two progress bars on standard error: one counts videos, and one counts the parts of a long video.

    Args:
        description: text in front of the bar that counts videos.
        total: number of videos. If it is 1, the bar that counts videos is hidden.
        done: number of videos that are done already.
        part: unit of the bar that counts parts: "window" or "view".
    """

    def __init__(self, description: str, total: int, done: int = 0, part: str = "window") -> None:
        self._part = part
        self._videos = ProgressBar(desc=description, total=total, initial=done, unit="video", disable=total == 1)
        self._parts: ProgressBar | None = None

    def __enter__(self) -> VideoBars:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_parts()
        self._videos.close()

    def video(self) -> None:
        """Count a finished video."""
        self._close_parts()
        self._videos.update()

    def parts(self, done: int, total: int) -> None:
        """Show how many of a video's parts are done."""
        if self._parts is None:
            row = 0 if self._videos.disable else 1
            delay = 1 if self._part == "window" else 0  # long before the first view is scored, its number is shown
            name = f"{self._part}s"
            self._parts = ProgressBar(desc=name, total=total, unit=self._part, leave=False, position=row, delay=delay)
        bar_to(self._parts, done, total)

    def _close_parts(self) -> None:
        if self._parts is not None:
            self._parts.close()
            self._parts = None
