"""Write a new file or folder atomically, together with further new files in its parent folder.

Output is written to a temporary folder on the same file system as the destination. Once complete, the output is moved
to the destination. An error or Ctrl-C leaves the destination unchanged.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from farfield.errors import FarfieldError


def refuse_existing(*places: Path) -> None:
    """Raise an error if one of the paths exists, so that no file or folder is overwritten.

    Raises:
        FarfieldError: for the first path that exists.
    """
    for place in places:
        if place.exists() or place.is_symlink():
            raise FarfieldError(f"{place} exists already. Choose another name, or remove it first.")


@contextmanager
def atomic_output(out: Path) -> Iterator[Path]:
    """Yield a temporary path to write to. When the block ends without an error, move the output to `out`.

    Args:
        out: file or folder to create. The temporary path has the same file name as `out`, but lies in a temporary
            folder. Other files that the block writes to the temporary folder are moved to the parent folder of `out`.

    Raises:
        FarfieldError: if `out` exists; if the parent folder of `out` already contains a file or folder with the name of
            one of the other files; or if the output cannot be written.
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
            raise FarfieldError(f"{out} cannot be written: {error.strerror or error}. Give another path.") from error
        yield stage / out.name
        _move(stage, out)
        done = True
    except OSError as error:
        raise FarfieldError(f"{out} cannot be written: {error.strerror or error}. Give another path.") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if not done:
            for folder in new_folders:  # innermost first
                with suppress(OSError):
                    folder.rmdir()


def _move(stage: Path, out: Path) -> None:
    """Move all files and folders in `stage` to the parent folder of `out`.

    The file or folder that becomes `out` is moved last. Once `out` exists, all others are therefore in place.
    """
    parts = sorted(stage.iterdir(), key=lambda part: part.name == out.name)
    refuse_existing(*(out.with_name(part.name) for part in parts))
    moved: list[Path] = []
    try:
        for part in parts:
            moved.append(part.rename(out.with_name(part.name)))
    except BaseException:
        for part in moved:
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
        raise
