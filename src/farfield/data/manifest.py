"""The manifest: a CSV that lists videos and their labels.

    path,label[,start_seconds,end_seconds][,num_frames,fps,width,height,duration_seconds]

Paths are relative to the manifest's folder, or to a root that is given. [start_seconds, end_seconds) is the annotated
segment; empty means the whole video. The last columns are filled once by indexing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from farfield.errors import FarfieldError, nearest


@dataclass(frozen=True)
class VideoRecord:
    """One row of a manifest. Times in seconds; None where the manifest does not say."""

    path: str
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    num_frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None


COLUMNS = tuple(field.name for field in fields(VideoRecord))
_WHOLE_NUMBERS = ("num_frames", "width", "height")


class Manifest(Sequence[VideoRecord]):
    """Rows of a manifest, held as columns so that worker processes share their memory.

    Args:
        records: the rows.
        root: folder that the paths are relative to.
        source: where the rows come from, for messages.
    """

    def __init__(self, records: Iterable[VideoRecord], *, root: str | Path, source: str = "manifest") -> None:
        rows = list(records)
        self.root = Path(root)
        self.source = source
        self.labels: list[str] = _sorted({row.label for row in rows})
        """The labels that occur, sorted; numbers as numbers, so that position i is class i of a list's."""
        number = {label: i for i, label in enumerate(self.labels)}
        self.label_ids = np.array([number[row.label] for row in rows], dtype=np.int64)
        # Arrays of bytes and numbers: no Python object whose reference count a worker would write to.
        self._paths = np.array([os.fsencode(row.path) for row in rows], dtype=np.bytes_)
        self._numbers = {
            name: np.array([math.nan if (v := getattr(row, name)) is None else v for row in rows], dtype=np.float64)
            for name in COLUMNS[2:]
        }

    def __len__(self) -> int:
        return len(self.label_ids)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        numbers: dict[str, Any] = {name: self._number(name, index) for name in self._numbers}
        return VideoRecord(os.fsdecode(self._paths[index]), self.labels[self.label_ids[index]], **numbers)

    def __iter__(self) -> Iterator[VideoRecord]:
        return (self[i] for i in range(len(self)))

    def _number(self, name: str, index: int) -> float | int | None:
        value = float(self._numbers[name][index])
        if math.isnan(value):
            return None
        return int(value) if name in _WHOLE_NUMBERS else value

    def path(self, index: int) -> Path:
        """The file of a row, ready to open."""
        return self.root / os.fsdecode(self._paths[index])

    def content_hash(self) -> str:
        """A short hash of paths, labels and segments: two manifests with the same hash list the same videos."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for column in (self._paths, self.label_ids, self._numbers["start_seconds"], self._numbers["end_seconds"]):
            digest.update(column.tobytes())
        return digest.hexdigest()[:16]

    def provenance(self) -> dict[str, Any]:
        """Which videos these are: source, content hash, counts, and what is known to be missing from a subset.

        For checkpoints, reports and trackers: plain types.
        """
        about = {"manifest": self.source, "hash": self.content_hash(), "videos": len(self), "classes": len(self.labels)}
        return about | {"missing": _missing(Path(self.source), about["hash"])}

    def targets(self, labels: Sequence[str]) -> np.ndarray:
        """Returns each row's class as a position in `labels`, int64.

        Raises:
            FarfieldError: for a label that is not among `labels`.
        """
        position = {label: i for i, label in enumerate(labels)}
        for label in self.labels:
            if label not in position:
                row = int(np.argmax(self.label_ids == self.labels.index(label)))
                raise FarfieldError(
                    f"{self.source}: {self[row].path} has the label {label!r}, which is not one of the {len(labels)} "
                    f"that the network knows. {nearest(label, labels)}"
                )
        return np.array([position[label] for label in self.labels], dtype=np.int64)[self.label_ids]


def read_manifest(path: str | Path, *, root: str | Path | None = None) -> Manifest:
    """Reads a manifest.

    Args:
        path: the CSV file.
        root: folder that the paths in it are relative to; None for the manifest's own.

    Raises:
        FarfieldError: for a missing or empty file, a missing or unknown column, or a value that is none, with the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FarfieldError(f"there is no manifest at {path}. `farfield data index` makes one from a folder of videos.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            records = list(_parse(csv.reader(file), path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FarfieldError(f"{path} is not a CSV file: {error}") from error
    if not records:
        raise FarfieldError(f"{path} lists no videos.")
    return Manifest(records, root=path.parent if root is None else root, source=str(path))


def record_file(manifest: str | Path) -> Path:
    """Where the record of how a subset was chosen lies, beside its manifest."""
    return Path(manifest).with_suffix(".subset.json")


def _missing(manifest: Path, digest: object) -> int | None:
    """How many chosen videos were not there when the subset was made; None where no record says it."""
    try:
        about = json.loads(record_file(manifest).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(about, dict) or about.get("hash") != digest:
        return None  # of another content than this manifest has now
    return about.get("missing")


def write_manifest(path: str | Path, records: Sequence[VideoRecord]) -> None:
    """Writes a manifest, whole or not at all; columns that no row fills are left out."""
    path = Path(path)
    used = [name for i, name in enumerate(COLUMNS) if i < 2 or any(getattr(r, name) is not None for r in records)]
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(used)
        for record in records:
            values = [getattr(record, name) for name in used]
            writer.writerow(["" if v is None else f"{v:.10g}" if isinstance(v, float) else v for v in values])
    partial.replace(path)


def _sorted(labels: set[str]) -> list[str]:
    numbers = all(label.isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label) if numbers else 0, label))


def _parse(reader: Iterator[list[str]], path: Path) -> Iterator[VideoRecord]:
    header = [name.strip() for name in next(reader, [])]
    for name in header:
        if name not in COLUMNS:
            raise FarfieldError(f"{path} has a column {name!r}. {nearest(name, COLUMNS)}")
    for name in COLUMNS[:2]:
        if name not in header:
            raise FarfieldError(
                f"{path} has no column {name!r}; its first line is {','.join(header)!r}. A manifest starts with a line "
                "of column names, at least `path,label`. `farfield data index` reads other formats."
            )
    for line, values in enumerate(reader, start=2):
        if not values:
            continue
        if len(values) != len(header):
            raise FarfieldError(f"{path}, line {line}: {len(values)} values for {len(header)} columns.")
        yield _record(dict(zip(header, values, strict=True)), f"{path}, line {line}")


def _record(row: dict[str, str], place: str) -> VideoRecord:
    for name in COLUMNS[:2]:
        if not row[name]:
            raise FarfieldError(f"{place}: the {name} is empty.")
    numbers: dict[str, float | int | None] = {}
    for name, text in row.items():
        if name in COLUMNS[2:] and text:
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if not math.isfinite(number) or number < 0:
                raise FarfieldError(f"{place}: {name} is {text!r}; it must be a number, at least 0, or empty.")
            numbers[name] = int(number) if name in _WHOLE_NUMBERS else number
    record = VideoRecord(row["path"], row["label"], **numbers)  # type: ignore[arg-type]  # whole where they must be
    if record.end_seconds is not None and record.end_seconds <= (record.start_seconds or 0):
        raise FarfieldError(
            f"{place}: the segment [{record.start_seconds or 0}, {record.end_seconds}) is empty. Raise end_seconds."
        )
    return record
