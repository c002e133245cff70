"""Manifests: CSV files that list videos and their labels.

    path,label[,start_seconds,end_seconds][,num_frames,fps,width,height,duration_seconds][,group]

Paths are relative to the manifest's folder, or to a given root. A path leads to a video file, or to a folder of
numbered pictures, which needs `fps`. Several labels of one row are separated by `|`; an empty label means none of the
classes. [start_seconds, end_seconds) is the annotated segment; without one, the whole video is used. `farfield data
index` fills the columns from num_frames to duration_seconds. `group` names what videos have in common, such as the
person or the source video; `farfield data split` puts all videos of a group into the same split. Spaces around a value
are stripped.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farfield.atomic_write import atomic_write
from farfield.data.manifest_csv import read_blocks
from farfield.data.string_array import StringArray
from farfield.data.video_record import COLUMNS, NUMBER_COLUMNS, WHOLE_NUMBER_COLUMNS, VideoRecord, split_labels
from farfield.errors import FarfieldError, nearest


class Manifest(Sequence[VideoRecord]):
    """Manifest that holds its columns in arrays: 650,000 rows need little memory, which worker processes share.

    Args:
        records: rows of the manifest.
        root: folder that the paths are relative to.
        source: path of the manifest, for messages.
    """

    def __init__(self, records: Iterable[VideoRecord], *, root: str | Path, source: str = "manifest") -> None:
        rows = list(records)
        columns: dict[str, Sequence[Any]] = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
        for name in NUMBER_COLUMNS:
            columns[name] = [math.nan if value is None else value for value in columns[name]]
        columns["group"] = [value or "" for value in columns["group"]]
        self._set_columns([columns] if rows else [], Path(root), source)

    @classmethod
    def of_columns(cls, blocks: Iterable[dict[str, Sequence[Any]]], *, root: Path, source: str) -> Manifest:
        """Create a manifest from blocks of rows.

        A block maps column names to their values: strings, or numbers with NaN for an empty value.
        """
        made = cls.__new__(cls)
        made._set_columns(blocks, root, source)
        return made

    def _set_columns(self, blocks: Iterable[dict[str, Sequence[Any]]], root: Path, source: str) -> None:
        self.root = root
        self.source = source
        self._paths = StringArray()
        met: dict[str, int] = {}
        ids: list[np.ndarray] = []
        numbers: dict[str, list[np.ndarray]] = {name: [] for name in NUMBER_COLUMNS}
        groups = StringArray()
        for block in blocks:
            self._paths.add(block["path"])
            count = len(block["path"])
            groups.add(block.get("group", [""] * count))
            for label in dict.fromkeys(block["label"]):
                met.setdefault(label, len(met))
            ids.append(np.fromiter(map(met.__getitem__, block["label"]), np.int64, count))
            for name, parts in numbers.items():
                parts.append(np.array(block[name], dtype=np.float64) if name in block else np.full(count, np.nan))
        self._paths.close()
        groups.close()
        self._groups = groups if groups.ends[-1] else None
        self._texts = _sort_labels(set(met))  # the different values of the column `label`
        self.labels: list[str] = _sort_labels({label for text in met for label in split_labels(text)})
        """Labels that occur, sorted. If all are numbers, they are sorted as numbers, so that 10 comes after 9."""
        number = {label: i for i, label in enumerate(self._texts)}
        in_order = np.array([number[label] for label in met], dtype=np.int64)
        self._text_ids: np.ndarray = in_order[np.concatenate(ids)] if ids else np.empty(0, dtype=np.int64)
        self._numbers = {name: _column(parts) for name, parts in numbers.items()}

    def __len__(self) -> int:
        return len(self._text_ids)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        numbers: dict[str, Any] = {name: self._number(name, index) for name in self._numbers}
        label = self._texts[self._text_ids[index]]
        group = self._groups[index] or None if self._groups else None
        return VideoRecord(self._paths[index], label, **numbers, group=group)

    def __iter__(self) -> Iterator[VideoRecord]:
        return (self[i] for i in range(len(self)))

    def _number(self, name: str, index: int) -> float | int | None:
        column = self._numbers[name]
        value = math.nan if column is None else float(column[index])
        if math.isnan(value):
            return None
        return int(value) if name in WHOLE_NUMBER_COLUMNS else value

    def path(self, index: int) -> Path:
        """Return the path of a row's video file or folder of numbered pictures."""
        return self.root / self._paths[index]

    def content_hash(self) -> str:
        """Return a hash of the paths, labels and segments of all rows; other columns do not affect it."""
        digest = hashlib.sha256(json.dumps(self._texts).encode())
        segments = [self._numbers[name] for name in ("start_seconds", "end_seconds")]
        for column in (self._paths.bytes, self._paths.ends, self._text_ids, *segments):
            digest.update(b"" if column is None else column.tobytes())
        return digest.hexdigest()[:16]

    def provenance(self) -> dict[str, Any]:
        """Return path, content hash and size of the manifest, for checkpoints, reports and experiment trackers.

        The keys are "manifest" (path), "hash" (content hash), "videos" (number of rows), "classes" (number of classes)
        and "missing": the number of videos that `farfield data subset` selected for this manifest but could not find.
        "missing" is None if the number is unknown, for example because another command wrote the manifest.
        """
        about = {"manifest": self.source, "hash": self.content_hash(), "videos": len(self), "classes": len(self.labels)}
        return about | {"missing": _count_missing(Path(self.source), about["hash"])}

    def targets(self, labels: Sequence[str]) -> np.ndarray:
        """Return each row's class as an index into `labels`, int64.

        Raises:
            FarfieldError: for a label that is not in `labels`, or a row with no label or several.
        """
        position = self._positions(labels)
        for place, text in enumerate(self._texts):
            found = split_labels(text)
            if len(found) != 1:
                row = int(np.argmax(self._text_ids == place))
                raise FarfieldError(
                    f"{self.source}: {self[row].path} has {f'the labels {text!r}' if found else 'no label'}, but a "
                    "single-label network needs exactly one class per video. Correct the row, or set model.task to "
                    "multilabel (several labels or none) or multi_head (labels such as verb:open|noun:door)."
                )
        return np.array([position[split_labels(text)[0]] for text in self._texts], dtype=np.int64)[self._text_ids]

    def target_matrix(self, labels: Sequence[str]) -> np.ndarray:
        """Return a matrix, float32 (rows, labels), with 1 where the row has the label and 0 elsewhere.

        Raises:
            FarfieldError: for a label that is not in `labels`.
        """
        position = self._positions(labels)
        of_text = np.zeros((len(self._texts), len(labels)), dtype=np.float32)
        for place, text in enumerate(self._texts):
            of_text[place, [position[label] for label in split_labels(text)]] = 1
        return of_text[self._text_ids]

    def _positions(self, labels: Sequence[str]) -> dict[str, int]:
        """Map each label to its index in `labels`.

        Raises:
            FarfieldError: if a row has a label that is not in `labels`.
        """
        position = {label: i for i, label in enumerate(labels)}
        for place, text in enumerate(self._texts):
            for label in split_labels(text):
                if label not in position:
                    row = int(np.argmax(self._text_ids == place))
                    raise FarfieldError(
                        f"{self.source}: {self[row].path} has the label {label!r}, which is not one of the "
                        f"{len(labels)} classes of the network. {nearest(label, labels)}"
                    )
        return position


def read_manifest(
    path: str | Path, *, root: str | Path | None = None, group_column: str = "group", needs_labels: bool = True
) -> Manifest:
    """Read a manifest.

    Args:
        path: CSV file.
        root: folder that the paths in the file are relative to; None for the folder of the manifest.
        group_column: name of the column that holds the group of each video. If this name is not "group", and the file
            has a column of this name, unknown columns are ignored. Otherwise, unknown columns are an error.
        needs_labels: whether the file must have the column `label`.

    Raises:
        FarfieldError: for a missing or empty file, a missing or unknown column, or an invalid value; the message names
            the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FarfieldError(
            f"there is no manifest at {path}. `farfield data index` makes a manifest from a folder of videos."
        )
    try:
        # File names need not be UTF-8. Any other text that is not UTF-8 fails as a header or an unknown label.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            folder = path.parent if root is None else Path(root)
            manifest = Manifest.of_columns(
                read_blocks(file, path, group_column, needs_labels=needs_labels), root=folder, source=str(path)
            )
    except csv.Error as error:
        raise FarfieldError(
            f"{path} is not a CSV file: {error}. `farfield data index` makes a manifest from a folder of videos."
        ) from error
    if not len(manifest):
        raise FarfieldError(f"{path} lists no videos. Add a row for each video.")
    return manifest


def _column(parts: list[np.ndarray]) -> np.ndarray | None:
    """Concatenate the parts of a column; None if all values are NaN."""
    if all(np.isnan(part).all() for part in parts):
        return None
    return np.concatenate(parts)


def record_file(manifest: str | Path) -> Path:
    """Return the path of the JSON file, beside the manifest of a subset, that records how the subset was chosen."""
    return Path(manifest).with_suffix(".subset.json")


def _count_missing(manifest: Path, digest: object) -> int | None:
    """Return how many videos `farfield data subset` selected for a manifest but could not find; None if unknown.

    `farfield data subset` writes this number, and the manifest's content hash, to a JSON file beside the manifest. If
    this hash differs from the present hash `digest`, the manifest has changed since, and the number is unknown.
    """
    try:
        about = json.loads(record_file(manifest).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(about, dict) or about.get("hash") != digest:
        return None  # the record is of other content
    return about.get("missing")


def write_manifest(path: str | Path, records: Sequence[VideoRecord]) -> None:
    """Write a manifest atomically, without columns that are None in every record."""
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


def _sort_labels(labels: set[str]) -> list[str]:
    numbers = all(label.isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label) if numbers else 0, label))
