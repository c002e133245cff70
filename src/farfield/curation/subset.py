"""Subsets of a collection: some classes, some videos of each, chosen by a seed and always the same.

A class or a video is chosen by a hash of the seed and its name, never by its place in a list: a video that is added, or
a class that is asked for besides, leaves all other choices as they were, and half as many videos are half of the same.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from farfield.atomic_write import atomic_write
from farfield.curation.folder_scan import LeftOut
from farfield.curation.index import READERS, make_room, path_from
from farfield.data.manifest import Manifest, VideoRecord, read_manifest, record_file, write_manifest
from farfield.errors import FarfieldError, nearest

KINETICS = ("label", "youtube_id", "time_start")
"""Columns that tell Kinetics' CSV from a manifest."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Selection:
    """What to keep.

    Args:
        classes: names; None for all.
        pattern: a shell pattern for names, as "*swimming*"; upper and lower case are the same.
        num_classes: so many of the classes that are left; None for all.
        videos_per_class: so many of each; None for all.
        seed: another one chooses others.
    """

    classes: tuple[str, ...] | None = None
    pattern: str | None = None
    num_classes: int | None = None
    videos_per_class: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_classes", "videos_per_class"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FarfieldError(f"{name} is {value}; it must be at least 1, or null for all.")
        if self.classes is not None and not self.classes:
            raise FarfieldError("classes is empty. Name at least one, or leave it out.")


@dataclass(frozen=True)
class Subset:
    """What was written.

    Attributes:
        path: the manifest, or, for Kinetics' CSV without the videos' folder, a CSV of the same columns.
        labels: the classes in it.
        videos: rows in it.
        missing: files that were chosen and are not there.
        hash: of the manifest's content; None for a CSV.
        left_out: account of what the scan of `root` passed over.
    """

    path: Path
    labels: list[str]
    videos: int
    missing: list[str]
    hash: str | None
    left_out: LeftOut = field(default_factory=LeftOut)


def write_subset(
    source: str | Path, out: str | Path, selection: Selection, *, root: str | Path | None = None
) -> Subset:
    """Chooses from a manifest or from Kinetics' CSV, and writes what was chosen.

    Args:
        source: a manifest, or Kinetics' CSV (columns label, youtube_id, time_start, ...).
        out: the file to write. A manifest, with a record of the choice beside it (`*.subset.json`); but a CSV like the
            source where that is Kinetics' and `root` is not given, to know what to download.
        selection: what to keep.
        root: folder of the videos; None for the manifest's own.

    Raises:
        FarfieldError: for a class that there is not, a choice that leaves nothing, or a file that cannot be written.
    """
    source, out = Path(source), Path(out)
    if out.exists() and out.resolve() == source.resolve():
        raise FarfieldError(f"{out} is the list to choose from. Write the subset to another file.")
    make_room(out)
    header, rows = _kinetics_rows(source)
    if rows and root is None:
        chosen_rows = choose(rows, selection, label=lambda row: row["label"], name=_kinetics_name)
        with atomic_write(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header, lineterminator="\n")
            writer.writeheader()
            writer.writerows(chosen_rows)
        return Subset(out, sorted({row["label"] for row in chosen_rows}), len(chosen_rows), [], None)
    left_out = LeftOut()
    if rows:
        assert root is not None
        folder = Path(root)
        if not folder.is_dir():
            raise FarfieldError(f"root is {root}, which is no folder.")
        # Chosen as without root, so that what was downloaded after the first choice is what the second one takes.
        pairs = list(zip(rows, READERS["kinetics"](folder, source, None, left_out), strict=True))
        kept = choose(pairs, selection, label=lambda pair: pair[0]["label"], name=lambda pair: _kinetics_name(pair[0]))
        chosen = [record for _, record in kept]
    else:
        manifest = read_manifest(source, root=root)
        folder = manifest.root
        chosen = choose(manifest, selection, label=lambda record: record.label, name=_record_name)
    missing = [str(folder / record.path) for record in chosen if not (folder / record.path).is_file()]
    there = [record for record in chosen if (folder / record.path).is_file()]
    if not there:
        raise FarfieldError(
            f"none of the {len(chosen)} chosen videos is there; the first: {missing[0]}. Is root right?"
        )
    placed = [replace(record, path=path_from(out.parent, folder, record.path)) for record in there]
    write_manifest(out, placed)
    digest = Manifest(placed, root=out.parent).content_hash()
    labels = sorted({record.label for record in there})
    about: dict[str, Any] = {"hash": digest, "source": str(source), "selection": asdict(selection)}
    about |= {"videos": len(there), "classes": len(labels), "missing": len(missing), "missing_videos": missing}
    with atomic_write(record_file(out)) as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n")
    return Subset(out, labels, len(there), missing, digest, left_out)


def choose(
    rows: Iterable[Row], selection: Selection, *, label: Callable[[Row], str], name: Callable[[Row], str]
) -> list[Row]:
    """The chosen rows, in their order.

    Args:
        rows: what to choose from.
        selection: what to keep.
        label: a row's class.
        name: what tells a row from all others of its class, wherever the collection lies.

    Raises:
        FarfieldError: for a class that there is not, or a choice that leaves nothing.
    """
    by_class: dict[str, list[tuple[int, Row]]] = {}
    for place, row in enumerate(rows):
        by_class.setdefault(label(row), []).append((place, row))
    names = list(by_class)
    if selection.classes is not None:
        for wanted in selection.classes:
            if wanted not in by_class:
                raise FarfieldError(f"there is no class {wanted!r}. {nearest(wanted, names)}")
        names = list(dict.fromkeys(selection.classes))
    if selection.pattern is not None:
        pattern = selection.pattern.casefold()
        matching = [name for name in names if fnmatch.fnmatchcase(name.casefold(), pattern)]
        if not matching:
            raise FarfieldError(
                f"no class matches {selection.pattern!r}. {nearest(selection.pattern.strip('*'), names)}"
            )
        names = matching
    if selection.num_classes is not None:
        if selection.num_classes > len(names):
            raise FarfieldError(f"num_classes is {selection.num_classes}, and there are {len(names)} to choose from.")
        names = sorted(names, key=lambda name: _rank(selection.seed, name))[: selection.num_classes]
    kept: list[tuple[int, Row]] = []
    for each in names:
        ranked = by_class[each]
        if selection.videos_per_class is not None:
            # Files of one name in several folders are told apart by the rest of the row.
            ranks = {place: (_rank(selection.seed, each, name(row)), str(row)) for place, row in ranked}
            ranked = sorted(ranked, key=lambda placed: ranks[placed[0]])  # used at once
        kept += ranked[: selection.videos_per_class]
    return [row for _, row in sorted(kept, key=lambda placed: placed[0])]


def _rank(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\0".join([str(seed), *names]).encode(errors="surrogateescape")).digest()


def _record_name(record: VideoRecord) -> str:
    return f"{Path(record.path).name} {record.start_seconds} {record.end_seconds}"


def _kinetics_name(row: dict[str, str]) -> str:
    return f"{row['youtube_id']} {row['time_start']}"


def _kinetics_rows(source: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of Kinetics' CSV; nothing for anything else."""
    if not source.is_file():
        raise FarfieldError(f"there is no file {source}. Give a manifest, or Kinetics' CSV.")
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(KINETICS) <= set(reader.fieldnames or ()):
                return [], []
            rows = list(reader)
            for line, row in enumerate(rows, start=2):
                if None in row or None in row.values():
                    raise FarfieldError(f"{source}, line {line}: its values are not as many as the columns.")
            return list(reader.fieldnames or ()), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise FarfieldError(f"{source} is not a CSV file: {error}") from error
