"""The manifest: a CSV that lists videos and their labels.

    path,label[,start_seconds,end_seconds][,num_frames,fps,width,height,duration_seconds]

Paths are relative to the manifest's folder, or to a root that is given. [start_seconds, end_seconds) is the annotated
segment; empty means the whole video. The last columns are filled once by indexing. Blanks around a value do not count.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from farfield.atomic_write import atomic_write
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


class _Texts:
    """Strings as one array of bytes and where each begins: no Python object whose count a worker would write to."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._lengths: list[np.ndarray] = []

    def add(self, texts: Sequence[str]) -> None:
        joined = "".join(texts)
        each: Sequence[str | bytes] = texts if joined.isascii() else [os.fsencode(text) for text in texts]
        self._lengths.append(np.fromiter(map(len, each), dtype=np.int64, count=len(texts)))
        self._parts.append(os.fsencode(joined))

    def close(self) -> None:
        self.bytes = np.frombuffer(b"".join(self._parts), dtype=np.uint8)
        self.ends = np.cumsum(np.concatenate([[0], *self._lengths]), dtype=np.int64)
        del self._parts, self._lengths

    def __getitem__(self, index: int) -> str:
        place = index % (len(self.ends) - 1)
        return os.fsdecode(self.bytes[self.ends[place] : self.ends[place + 1]].tobytes())


class Manifest(Sequence[VideoRecord]):
    """Rows of a manifest, held as arrays, so that 650,000 take little and worker processes share their memory.

    Args:
        records: the rows.
        root: folder that the paths are relative to.
        source: where the rows come from, for messages.
    """

    def __init__(self, records: Iterable[VideoRecord], *, root: str | Path, source: str = "manifest") -> None:
        rows = list(records)
        columns: dict[str, Sequence[Any]] = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
        for name in COLUMNS[2:]:
            columns[name] = [math.nan if value is None else value for value in columns[name]]
        self._hold([columns] if rows else [], Path(root), source)

    @classmethod
    def of_columns(cls, blocks: Iterable[dict[str, Sequence[Any]]], *, root: Path, source: str) -> Manifest:
        """From blocks of rows, each as its columns: texts, and numbers that are NaN where nothing is known."""
        made = cls.__new__(cls)
        made._hold(blocks, root, source)
        return made

    def _hold(self, blocks: Iterable[dict[str, Sequence[Any]]], root: Path, source: str) -> None:
        self.root = root
        self.source = source
        self._paths = _Texts()
        met: dict[str, int] = {}
        ids: list[np.ndarray] = []
        numbers: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS[2:]}
        for block in blocks:
            self._paths.add(block["path"])
            count = len(block["path"])
            for label in dict.fromkeys(block["label"]):
                met.setdefault(label, len(met))
            ids.append(np.fromiter(map(met.__getitem__, block["label"]), np.int64, count))
            for name, parts in numbers.items():
                parts.append(np.array(block[name], dtype=np.float64) if name in block else np.full(count, np.nan))
        self._paths.close()
        self.labels: list[str] = _sorted(set(met))
        """The labels that occur, sorted; numbers as numbers, so that position i is class i of a list's."""
        number = {label: i for i, label in enumerate(self.labels)}
        in_order = np.array([number[label] for label in met], dtype=np.int64)
        self.label_ids: np.ndarray = in_order[np.concatenate(ids)] if ids else np.empty(0, dtype=np.int64)
        self._numbers = {name: _column(parts) for name, parts in numbers.items()}

    def __len__(self) -> int:
        return len(self.label_ids)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        numbers: dict[str, Any] = {name: self._number(name, index) for name in self._numbers}
        return VideoRecord(self._paths[index], self.labels[self.label_ids[index]], **numbers)

    def __iter__(self) -> Iterator[VideoRecord]:
        return (self[i] for i in range(len(self)))

    def _number(self, name: str, index: int) -> float | int | None:
        column = self._numbers[name]
        value = math.nan if column is None else float(column[index])
        if math.isnan(value):
            return None
        return int(value) if name in _WHOLE_NUMBERS else value

    def path(self, index: int) -> Path:
        """The file of a row, ready to open."""
        return self.root / self._paths[index]

    def content_hash(self) -> str:
        """A short hash of paths, labels and segments: two manifests with the same hash list the same videos."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        segments = [self._numbers[name] for name in ("start_seconds", "end_seconds")]
        for column in (self._paths.bytes, self._paths.ends, self.label_ids, *segments):
            digest.update(b"" if column is None else column.tobytes())
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
        # File names need not be UTF-8; what else is none shows in the header or as an unknown label.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            folder = path.parent if root is None else Path(root)
            manifest = Manifest.of_columns(_blocks(file, path), root=folder, source=str(path))
    except csv.Error as error:
        raise FarfieldError(f"{path} is not a CSV file: {error}") from error
    if not len(manifest):
        raise FarfieldError(f"{path} lists no videos.")
    return manifest


def _column(parts: list[np.ndarray]) -> np.ndarray | None:
    """One array; None for a column in which nothing is known."""
    if all(np.isnan(part).all() for part in parts):
        return None
    return np.concatenate(parts)


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
    with (
        atomic_write(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(used)
        for record in records:
            values = [getattr(record, name) for name in used]
            writer.writerow(["" if v is None else f"{v:.10g}" if isinstance(v, float) else v for v in values])


def _sorted(labels: set[str]) -> list[str]:
    numbers = all(label.isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label) if numbers else 0, label))


def _blocks(file: Iterator[str], path: Path) -> Iterator[dict[str, Sequence[Any]]]:
    """The rows, checked, in blocks of a size that takes little memory."""
    header = [name.strip() for name in next(csv.reader(file), [])]
    if any(not name.isprintable() for name in header):
        raise csv.Error("its first line is no text")
    for name in header:
        if name not in COLUMNS:
            raise FarfieldError(f"{path} has a column {name!r}. {nearest(name, COLUMNS)}")
    for name in COLUMNS[:2]:
        if name not in header:
            raise FarfieldError(
                f"{path} has no column {name!r}; its first line is {','.join(header)!r}. A manifest starts with a line "
                "of column names, at least `path,label`. `farfield data index` reads other formats."
            )
    if len(set(header)) < len(header):
        raise FarfieldError(f"{path} has a column twice: its first line is {','.join(header)!r}. Leave one out.")
    line = 2
    while lines := list(islice(file, _BLOCK)):
        text = "".join(lines).replace("\r\n", "\n")
        plain = '"' not in text and "\r" not in text
        if plain and {each.count(",") for each in lines} == {len(header) - 1}:
            # Without quotes, commas and line ends are all that there is: columns are every so many fields.
            cells = text.removesuffix("\n").replace("\n", ",").split(",")
            columns: list[Sequence[str]] = [cells[i :: len(header)] for i in range(len(header))]
            numbers: Sequence[int] = range(line, line + len(lines))
        else:
            # A quoted field may go on in the next block.
            rows = csv.reader(chain(lines, file) if '"' in text else lines)
            numbered = [(number, row) for number, row in enumerate(rows, start=line) if row]
            for number, row in numbered:
                if len(row) != len(header):
                    raise FarfieldError(f"{path}, line {number}: {len(row)} values for {len(header)} columns.")
            columns = [[row[i] for _, row in numbered] for i in range(len(header))]
            numbers = [number for number, _ in numbered]
        texts = {name: [text.strip() for text in column] for name, column in zip(header, columns, strict=True)}
        yield _checked(texts, path, numbers)
        line += len(lines)


_BLOCK = 10_000


def _checked(texts: Mapping[str, Sequence[str]], path: Path, lines: Sequence[int]) -> dict[str, Sequence[Any]]:
    """Columns of numbers for columns of texts, whose rows are on those lines of the file.

    Raises:
        FarfieldError: for a value that is not what it must be, with its line.
    """
    columns: dict[str, Any] = {name: texts[name] for name in COLUMNS[:2]}
    for name in COLUMNS[:2]:
        if not all(texts[name]):
            raise FarfieldError(f"{path}, line {lines[texts[name].index('')]}: the {name} is empty.")
    for name in COLUMNS[2:]:
        if name not in texts or not any(texts[name]):
            continue
        numbers = np.fromiter(map(_number, texts[name]), np.float64, len(lines))
        if (numbers == _NO_NUMBER).any():
            row = int(np.argmax(numbers == _NO_NUMBER))
            raise FarfieldError(
                f"{path}, line {lines[row]}: {name} is {texts[name][row]!r}; it must be a number, at least 0, or empty."
            )
        columns[name] = np.floor(numbers) if name in _WHOLE_NUMBERS else numbers
    if "end_seconds" in columns:
        ends = columns["end_seconds"]
        starts = np.nan_to_num(columns.get("start_seconds", ends * 0))
        if (ends <= starts).any():
            row = int(np.argmax(ends <= starts))
            raise FarfieldError(
                f"{path}, line {lines[row]}: the segment [{starts[row]}, {ends[row]}) is empty. Raise end_seconds."
            )
    return columns


_NO_NUMBER = -1.0


def _number(text: str) -> float:
    """A number from 0 on; NaN for nothing."""
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        return _NO_NUMBER
    return number if 0 <= number < math.inf else _NO_NUMBER
