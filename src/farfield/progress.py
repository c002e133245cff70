"""Progress bars on standard error, and the switch that turns them off.

Training and tests show Lightning's own bars (`training/train.py`, `evaluation/evaluate.py`).
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
    """Show or hide the progress bars in the `with` block. Inside a block that hides them, they stay hidden."""
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
