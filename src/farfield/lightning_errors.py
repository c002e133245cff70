"""Turn Lightning's errors about options into `FarfieldError`s, which are printed without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farfield.errors import FarfieldError


@contextmanager
def lightning_errors_as_ours(*more: type[Exception]) -> Iterator[None]:
    """Convert a MisconfigurationException that Lightning raises in the `with` block to a `FarfieldError`.

    Args:
        more: further exception types to convert. Some options raise ValueError, for example.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # late: slow to import

    mistakes: tuple[type[Exception], ...] = (MisconfigurationException, *more)
    try:
        yield
    except mistakes as error:
        raise FarfieldError(" ".join(str(error).split())) from error
