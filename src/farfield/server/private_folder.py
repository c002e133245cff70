"""The server's private temporary folder, which is removed when the server ends.

The next server that starts removes the folder of a server that was killed. Each server holds a file lock in its folder.
The operating system releases the lock when the server's process ends, so a folder whose lock can be acquired is no
longer in use.
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
"""A folder whose lock file is younger than this is not deleted: its server may be about to acquire the lock."""


class PrivateFolder:
    """A temporary folder that only the server's user can access (mode 0700).

    `incoming` holds the uploads of the HTTP API while they are processed. `kept` and Gradio's own folders hold the
    page's files until `delete_expired` removes them.
    """

    def __init__(self) -> None:
        _remove_stale_folders()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        lock = FileLock(self.path / _LOCK, thread_local=False)
        self._remove = weakref.finalize(self, _remove, self.path, lock)  # runs at interpreter exit at the latest
        lock.acquire()
        self._lock = self.path / _LOCK
        self._in_use: list[Path] = []
        self._incoming = self.path / "incoming"
        self._kept = self.path / "kept"
        for folder in (self._incoming, self._kept):
            folder.mkdir()

    @contextmanager
    def incoming_file(self) -> Iterator[Path]:
        """Yield a path to write an upload to, and delete the file when the block ends."""
        path = self._incoming / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def new_kept_folder(self) -> Path:
        """Create a folder for the files that the page keeps of one video, such as its frames."""
        path = self._kept / secrets.token_hex(16)
        path.mkdir()
        return path

    @contextmanager
    def in_use(self, *paths: Path) -> Iterator[None]:
        """Protect the paths from `delete_expired` until the block ends, and then set their modification time to now."""
        self._in_use.extend(paths)
        try:
            yield
        finally:
            for path in paths:
                self._in_use.remove(path)
                with suppress(OSError):
                    os.utime(path)

    def shows(self, path: str) -> bool:
        """Return whether the page may show the file at a path, after links and `..` are resolved.

        The page may show all files in this folder, except the lock and the uploads of the HTTP API.
        """
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError):  # a loop of links; a null byte
            return False
        closed = (self._incoming, self._lock)
        return resolved.is_relative_to(self.path) and not any(resolved.is_relative_to(each) for each in closed)

    def size(self) -> int:
        """Return the total size of all files in the folder, in bytes."""
        walk = os.walk(self.path)  # unlike a glob, it tolerates files that are deleted meanwhile
        return sum(_size(Path(folder, name)) for folder, _, names in walk for name in names)

    def delete_expired(self, keep_seconds: float) -> None:
        """Delete files and folders that were last written more than `keep_seconds` ago, except for paths in use."""
        before = time.time() - keep_seconds
        in_use = tuple(self._in_use)
        for path in sorted(self.path.rglob("*"), reverse=True):  # files before their folders
            if path in (self._incoming, self._kept, self._lock) or self._incoming in path.parents:
                continue
            if any(path.is_relative_to(each) for each in in_use):
                continue
            with suppress(OSError):  # a folder that is not empty; a file that has been deleted meanwhile
                if path.lstat().st_mtime < before:
                    path.rmdir() if path.is_dir() else path.unlink()

    def remove(self) -> None:
        """Delete the folder; further calls do nothing."""
        self._remove()


def _remove(folder: Path, lock: FileLock) -> None:
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_stale_folders() -> None:
    """Delete the folders of servers that were killed."""
    user = getattr(os, "getuid", int)()  # Windows has no user ids, and reports 0 for every file
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != user:  # another user could plant a link as the lock
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
