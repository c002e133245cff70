"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields where to write; when the block ends, that takes the file's place. Nothing is left of a block that fails.

    Args:
        path: of the file, whose folder exists. Writing to the file yielded is the block's own business.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):  # where its folder is a file, there is nothing to remove
            partial.unlink(missing_ok=True)
