"""Cache of features on disk: safetensors files (shards) in a folder that is named by a hash of the settings.

A sample is one augmented view of a training video, or all test views of a video. A row holds the features of one
sample, and has a key that does not depend on the manifest, so that several manifests can share rows. Rows are collected
for up to half a minute, then written atomically to a new shard; only these rows are lost if a run is killed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from farfield.atomic_write import atomic_write, write_text_atomically
from farfield.errors import FarfieldError

SETTINGS = "settings.json"
SHARD_BYTES = 32_000_000
"""Bytes of features after which a shard is written."""
SHARD_SECONDS = 30.0
"""Time after which a shard is written even if it is small."""


class FeatureCache:
    """Cached features that were computed with the same settings, found by key.

    Args:
        folder: folder that holds a subfolder for each combination of settings.
        kind: start of the subfolder's name, such as "training".
        settings: everything that the features depend on and the keys do not encode, in plain types.

    Raises:
        FarfieldError: if the subfolder or its settings.json cannot be created, or a shard in it cannot be read.
    """

    def __init__(self, folder: Path, kind: str, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True, indent=1)
        self.folder = folder / f"{kind}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_once(self.folder / SETTINGS, text + "\n")
            shards = sorted(self.folder.glob("*.safetensors"))
        except OSError as error:
            raise _not_writable(self.folder, error) from error
        self._rows: dict[str, tuple[Path, int]] = {}
        for path in shards:
            self._index(path)
        self._waiting: list[tuple[str, dict[str, Tensor]]] = []
        self._waiting_bytes = 0
        self._written_at = time.monotonic()

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def _index(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as shard:
                keys = json.loads((shard.metadata() or {})["keys"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise FarfieldError(f"the cached features {path} cannot be read: {error}. Delete the file.") from error
        self._rows.update({key: (path, row) for row, key in enumerate(keys)})

    def add(self, key: str, features: Mapping[str, Tensor]) -> None:
        """Add the features of one sample under its key. They are on disk after the next `flush`.

        Raises:
            FarfieldError: if the folder cannot be written, or the disk is full.
        """
        self._waiting.append((key, {name: value.cpu() for name, value in features.items()}))
        self._waiting_bytes += sum(value.nbytes for value in features.values())
        if self._waiting_bytes >= SHARD_BYTES or time.monotonic() - self._written_at >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are not on disk yet to a new shard.

        Raises:
            FarfieldError: if the folder cannot be written, or the disk is full.
        """
        if not self._waiting:
            return
        keys = [key for key, _ in self._waiting]
        tensors = {name: torch.stack([row[name] for _, row in self._waiting]) for name in self._waiting[0][1]}
        path = self.folder / f"{uuid4().hex[:16]}.safetensors"
        try:
            with atomic_write(path) as partial:
                save_file(tensors, partial, metadata={"keys": json.dumps(keys)})
        except (OSError, SafetensorError) as error:
            raise _not_writable(self.folder, error) from error
        self._rows.update({key: (path, row) for row, key in enumerate(keys)})
        self._waiting, self._waiting_bytes, self._written_at = [], 0, time.monotonic()

    def check_space(self, needed_bytes: int) -> None:
        """Raise `FarfieldError` if the cache's disk has less free space than `needed_bytes`."""
        free = shutil.disk_usage(self.folder).free
        if needed_bytes > free:
            raise FarfieldError(
                f"the features need {as_gigabytes(needed_bytes)} in {self.folder}, but the disk has "
                f"{as_gigabytes(free)} left. Set probe.cache to a folder on another disk. Or save space: set "
                "probe.dtype to float16, probe.heads to [linear] (no maps), or probe.pool to a small size (small maps)."
            )

    def read(self, keys: Sequence[str]) -> CachedFeatures:
        """Open the features of the given keys, all of which must be in the cache."""
        return CachedFeatures([self._rows[key] for key in keys])


class CachedFeatures:
    """Features of several samples. Shards are memory-mapped, so that features are read from disk when needed.

    Args:
        rows: for each sample, the path of its shard and its row there.
    """

    def __init__(self, rows: Sequence[tuple[Path, int]]) -> None:
        self._shards: dict[Path, dict[str, Tensor]] = {}
        for path, _ in rows:
            if path not in self._shards:
                with safe_open(path, "pt") as shard:
                    self._shards[path] = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str, samples: Sequence[int]) -> Tensor:
        """Return the feature `name`, such as "vectors", of the samples at these indices, stacked along a first axis."""
        return torch.stack([self._shards[path][name][row] for path, row in (self._rows[i] for i in samples)])


def _write_once(path: Path, text: str) -> None:
    """Write a file unless it exists, so that a complete cache also works in a read-only folder."""
    if path.exists():
        return
    try:
        write_text_atomically(path, text)
    except FileNotFoundError:
        if not path.exists():  # otherwise, another run has written it at the same time
            raise


def as_gigabytes(count: int) -> str:
    """Format a number of bytes, as "3.10 GB" or "0.25 MB"."""
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def _not_writable(folder: Path, error: Exception) -> FarfieldError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FarfieldError(
        f"features cannot be written to {folder}: {reason}. Free up disk space, or set probe.cache to a writable "
        "folder. Features computed so far are kept."
    )
