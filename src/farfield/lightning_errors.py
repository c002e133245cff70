"""Turn Lightning's complaints about options into errors without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farfield.errors import FarfieldError


@contextmanager
def lightning_errors_as_ours(*more: type[Exception]) -> Iterator[None]:
    """Raise Lightning's MisconfigurationException in this block as `FarfieldError`.

    Args:
        more: other exceptions to treat alike: some options raise a ValueError.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # late: slow to import

    mistakes: tuple[type[Exception], ...] = (MisconfigurationException, *more)
    try:
        yield
    except mistakes as error:
        raise FarfieldError(" ".join(str(error).split())) from error
