"""A compact array of strings, for columns of manifests."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np


class StringArray:
    """Strings stored in one array of bytes with offsets.

    Worker processes share the memory of these arrays. With Python strings, every process would copy the memory, since
    each access writes a reference count.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._lengths: list[np.ndarray] = []

    def add(self, texts: Sequence[str]) -> None:
        """Append strings, which may contain surrogate escapes (bytes that are not UTF-8)."""
        joined = "".join(texts)
        each: Sequence[str | bytes] = texts if joined.isascii() else [os.fsencode(text) for text in texts]
        self._lengths.append(np.fromiter(map(len, each), dtype=np.int64, count=len(texts)))
        self._parts.append(os.fsencode(joined))

    def close(self) -> None:
        """Join all strings into one array. Strings can be added only before this call, and read only after it."""
        self.bytes = np.frombuffer(b"".join(self._parts), dtype=np.uint8)
        self.ends = np.cumsum(np.concatenate([[0], *self._lengths]), dtype=np.int64)
        del self._parts, self._lengths

    def __getitem__(self, index: int) -> str:
        place = index % (len(self.ends) - 1)
        return os.fsdecode(self.bytes[self.ends[place] : self.ends[place + 1]].tobytes())
