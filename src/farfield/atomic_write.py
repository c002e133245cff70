"""Atomic writes of single files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path that replaces `path` when the block ends without an error.

    Args:
        path: file to write; its folder must exist. The block writes to the temporary path.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):  # if the folder is a file, there is nothing to remove
            partial.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write text to a file atomically, as UTF-8 and without changing the text's line endings.

    The text may contain file names that are not valid UTF-8. Python represents their invalid bytes by surrogates
    (PEP 383). The original bytes are written.
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
