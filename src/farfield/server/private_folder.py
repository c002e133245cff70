"""The server's own folder: nobody else reads it, and nothing is left of it in the end.

Of a server that was killed, the next one removes what is left. A lock in the folder, which the system takes from who
ends, tells whose is still in use.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK = "farfield-serve-", "lock"
_YOUNG_SECONDS = 10.0
"""A lock that is newer may be about to be taken by who made it."""


class PrivateFolder:
    """A temporary folder of mode 0700.

    `incoming` holds what programs send, for as long as a request takes. `kept` and Gradio's own folders hold what the
    page shows, until `sweep` finds it too old.
    """

    def __init__(self) -> None:
        _remove_left_over()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        lock = FileLock(self.path / _LOCK, thread_local=False)
        self._remove = weakref.finalize(self, _remove, self.path, lock)  # at exit at the latest
        lock.acquire()
        self._lock = self.path / _LOCK
        self._held: list[Path] = []
        self._incoming = self.path / "incoming"
        self._kept = self.path / "kept"
        for folder in (self._incoming, self._kept):
            folder.mkdir()

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A place for a file that is deleted when the block ends, however it ends."""
        path = self._incoming / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self) -> Path:
        """A new folder for what the page shows of one clip."""
        path = self._kept / secrets.token_hex(16)
        path.mkdir()
        return path

    @contextmanager
    def held(self, *paths: Path) -> Iterator[None]:
        """What a request works on: until the block ends, nothing of it is swept, and then it counts as new."""
        self._held.extend(paths)
        try:
            yield
        finally:
            for path in paths:
                self._held.remove(path)
                with suppress(OSError):
                    os.utime(path)

    def holds(self, path: str) -> bool:
        """Whether a path, once links and `..` are followed, lies in what the page shows."""
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError):  # a loop of links; a null byte
            return False
        closed = (self._incoming, self._lock)
        return resolved.is_relative_to(self.path) and not any(resolved.is_relative_to(each) for each in closed)

    def size(self) -> int:
        """Bytes of all files in it."""
        walk = os.walk(self.path)  # unlike a glob, it passes over what is deleted meanwhile
        return sum(_size(Path(folder, name)) for folder, _, names in walk for name in names)

    def sweep(self, keep_seconds: float) -> None:
        """Deletes what was written more than so many seconds ago, but for what requests still hold."""
        before = time.time() - keep_seconds
        held = tuple(self._held)
        for path in sorted(self.path.rglob("*"), reverse=True):  # files before their folders
            if path in (self._incoming, self._kept, self._lock) or self._incoming in path.parents:
                continue
            if any(path.is_relative_to(each) for each in held):
                continue
            with suppress(OSError):  # a folder that is not empty; a file that another has deleted
                if path.lstat().st_mtime < before:
                    path.rmdir() if path.is_dir() else path.unlink()

    def remove(self) -> None:
        """Deletes all of it; may be called more than once."""
        self._remove()


def _remove(folder: Path, lock: FileLock) -> None:
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_left_over() -> None:
    mine = getattr(os, "getuid", int)()  # Windows has no such numbers, and gives every file 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != mine:  # in a stranger's, the lock could be anything
                continue
            if time.time() - (folder / _LOCK).stat().st_mtime > _YOUNG_SECONDS:
                lock = FileLock(folder / _LOCK, thread_local=False)
                lock.acquire(timeout=0)
                _remove(folder, lock)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size if path.is_file() else 0
    except OSError:
        return 0
