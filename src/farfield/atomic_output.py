"""A file or folder that is there whole or not at all.

It is made in a folder beside its place, on the same file system, and moved when all is done. Whatever stops the making,
an error or Ctrl-C, leaves the destination as it was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from farfield.errors import FarfieldError


def refuse_existing(*places: Path) -> None:
    """Refuses to write over what is there.

    Raises:
        FarfieldError: for the first place that is taken.
    """
    for place in places:
        if place.exists() or place.is_symlink():
            raise FarfieldError(f"{place} exists already. Choose another name, or remove it first.")


@contextmanager
def atomic_output(out: Path) -> Iterator[Path]:
    """Gives a path of the same name to write to; what has been written beside it moves along, before it.

    Raises:
        FarfieldError: where the place is taken, or cannot be written.
    """
    refuse_existing(out)
    new_folders = [folder for folder in out.absolute().parents if not folder.exists()]
    stage: Path | None = None
    done = False
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            stage = Path(tempfile.mkdtemp(prefix=f".{out.name[:80]}.partial-", dir=out.parent))
        except OSError as error:
            raise FarfieldError(f"{out} cannot be written: {error.strerror or error}. Choose another place.") from error
        yield stage / out.name
        _move(stage, out)
        done = True
    except OSError as error:
        raise FarfieldError(f"{out} cannot be written: {error.strerror or error}. Choose another place.") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if not done:
            for folder in new_folders:  # the innermost first
                with suppress(OSError):
                    folder.rmdir()


def _move(stage: Path, out: Path) -> None:
    """The file itself last: it is what counts, and what it needs is there by then."""
    parts = sorted(stage.iterdir(), key=lambda part: part.name == out.name)
    refuse_existing(*(out.with_name(part.name) for part in parts))
    moved: list[Path] = []
    try:
        for part in parts:
            moved.append(part.rename(out.with_name(part.name)))
    except BaseException:
        for part in moved:
            part.unlink(missing_ok=True)
        raise
