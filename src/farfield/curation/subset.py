"""Choose a subset of a data set, reproducibly for a seed: some classes, and some videos of each class.

Classes and videos are sorted by a hash of the seed and their name, and the first ones are chosen. Their position in a
list plays no role. For the same seed, adding a class therefore does not change which videos of the other classes are
chosen, and raising num_classes or videos_per_class only adds videos.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from farfield.atomic_write import atomic_write
from farfield.curation.class_names import find_class_names
from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.kinetics import read_kinetics, read_rows
from farfield.curation.manifest_output import make_parent_folder, path_in_manifest, refuse_to_replace_other_files
from farfield.data.manifest import read_manifest, record_file, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest

Row = TypeVar("Row")


@dataclass(frozen=True)
class Selection:
    """Criteria by which `choose` selects rows. They are arguments of `write_subset`, which documents them."""

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
            raise FarfieldError("classes is empty. Name at least one class, or leave classes out to choose from all.")


@dataclass(frozen=True)
class Subset:
    """Result of `write_subset`.

    Attributes:
        path: file that was written: a manifest; or a CSV with Kinetics' columns, if the source is Kinetics' CSV and no
            root is given.
        labels: classes in the file.
        videos: number of rows in the file.
        missing: paths of chosen videos that do not exist.
        hash: content hash of the manifest; None for a CSV.
        skipped: files that the scan of `root` skipped.
    """

    path: Path
    labels: list[str]
    videos: int
    missing: list[str]
    hash: str | None
    skipped: SkippedFiles = field(default_factory=SkippedFiles)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain types, for JSON."""
        about = {"out": str(self.path), "videos": self.videos, "classes": self.labels, "hash": self.hash}
        return about | {"missing": self.missing}


def write_subset(
    source: str | Path,
    out: str | Path,
    *,
    classes: list[str] | None = None,
    class_file: str | Path | None = None,
    pattern: str | None = None,
    num_classes: int | None = None,
    videos_per_class: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
) -> Subset:
    """Choose some classes, and some videos of each class, from a manifest or from Kinetics' CSV.

    Classes and videos are sorted by a hash of the seed and their name, and the first ones are chosen. For the same
    seed, adding a class therefore does not change which videos of the other classes are chosen, and raising num_classes
    or videos_per_class only adds videos. Chosen videos that do not exist are left out, and the result lists them.

    Args:
        source: manifest, or Kinetics' CSV (columns label, youtube_id, time_start, ...).
        out: manifest to write. A file beside it (*.subset.json) records the source and the criteria. If source is
            Kinetics' CSV and root is not given, a CSV with the same columns is written instead, for `data download`.
        classes: class names, for example ["archery", "bowling"]. If classes and class_file are both None, all classes.
        class_file: file with one class name per line, or "kinetics400" for the classes of Kinetics-400. Not allowed
            together with classes.
        pattern: shell pattern that class names must match, for example "*swimming*"; case is ignored.
        num_classes: number of classes to draw from those that classes, class_file and pattern allow; None for all.
        videos_per_class: number of videos to draw from each class; None for all.
        seed: seed of the hash.
        root: folder of the videos. None takes the manifest's folder; for Kinetics' CSV, see `out`.

    Raises:
        FarfieldError: for an unknown class, invalid or incompatible arguments, a source that cannot be read or has no
            videos, or an output folder that cannot be created; or if `out` is to be a manifest, but no chosen video
            exists.
    """
    if classes is not None and class_file is not None:
        raise FarfieldError("classes and class_file are both given. Leave one out.")
    names = classes if class_file is None else find_class_names(class_file)
    selection = Selection(None if names is None else tuple(names), pattern, num_classes, videos_per_class, seed)
    source, out = Path(source), Path(out)
    if out.exists() and out.resolve() == source.resolve():
        raise FarfieldError(f"{out} is both the source and the output file. Write the subset to another file.")
    make_parent_folder(out)
    header, rows = read_rows(source)
    if rows and root is None:
        chosen_rows = choose(rows, selection, labels=lambda row: (row["label"],), name=_kinetics_name)
        _refuse_to_replace_other_rows(out, header, rows, source)
        return _write_kinetics_csv(out, header, chosen_rows)
    refuse_to_replace_other_files(out)
    skipped = SkippedFiles()
    if rows:
        assert root is not None
        folder = Path(root)
        if not folder.is_dir():
            raise FarfieldError(f"root is {root}, which is not a folder. Give the folder of the videos.")
        # Ranked by the CSV's rows, as without root: the same selection then names the clips that were downloaded.
        pairs = list(zip(rows, read_kinetics(AnnotationSource(folder, source, skipped=skipped)), strict=True))
        kept = choose(
            pairs, selection, labels=lambda pair: (pair[0]["label"],), name=lambda pair: _kinetics_name(pair[0])
        )
        chosen = [record for _, record in kept]
    else:
        manifest = read_manifest(source, root=root)
        folder = manifest.root
        chosen = _without_other_labels(
            choose(manifest, selection, labels=lambda record: record.labels, name=_record_name),
            set(_choose_classes(manifest.labels, selection)),
        )
    return _write_manifest(out, chosen, folder, {"source": str(source), "selection": asdict(selection)}, skipped)


def choose(
    rows: Iterable[Row],
    selection: Selection,
    *,
    labels: Callable[[Row], Sequence[str]],
    name: Callable[[Row], str],
) -> list[Row]:
    """Choose rows by the criteria of a selection. The chosen rows keep their order.

    Rows without a class form a class of their own, which is always chosen; `videos_per_class` applies to it, too.

    Args:
        rows: rows to choose from.
        selection: criteria of the choice.
        labels: function that returns a row's classes.
        name: function that returns a name of a row, by whose hash the rows of a class are sorted. Rows with equal names
            are sorted by their text `str(row)`. The name should not contain the folder of the collection, so that the
            choice does not depend on where the collection lies.

    Raises:
        FarfieldError: if a class is unknown, if no class matches the pattern, or if there are fewer classes than
            `num_classes`.
    """
    by_class: dict[str, list[tuple[int, Row]]] = {}
    for place, row in enumerate(rows):
        for label in labels(row) or ("",):  # rows without a label are drawn like those of a class
            by_class.setdefault(label, []).append((place, row))
    kept: dict[int, Row] = {}
    without_label = [""] if "" in by_class else []
    for each in [*_choose_classes([label for label in by_class if label], selection), *without_label]:
        ranked = by_class[each]
        if selection.videos_per_class is not None:
            # The rest of the row breaks ties between files of one name in several folders.
            ranks = {place: (_rank(selection.seed, each, name(row)), str(row)) for place, row in ranked}
            ranked = sorted(ranked, key=lambda placed: ranks[placed[0]])  # used at once
        kept |= ranked[: selection.videos_per_class]
    return [kept[place] for place in sorted(kept)]


def _without_other_labels(records: Sequence[VideoRecord], classes: set[str]) -> list[VideoRecord]:
    """Remove the labels that are not in `classes` from each row."""
    return [replace(each, label="|".join(label for label in each.labels if label in classes)) for each in records]


def _choose_classes(known: list[str], selection: Selection) -> list[str]:
    names = known
    if selection.classes is not None:
        for wanted in selection.classes:
            if wanted not in known:
                raise FarfieldError(f"there is no class {wanted!r}. {nearest(wanted, known)}")
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
            raise FarfieldError(
                f"num_classes is {selection.num_classes}; it must be at most {len(names)}, the number of classes to "
                "choose from."
            )
        names = sorted(names, key=lambda name: _rank(selection.seed, name))[: selection.num_classes]
    return names


def _refuse_to_replace_other_rows(out: Path, header: list[str], rows: list[dict[str, str]], source: Path) -> None:
    """Refuse to overwrite a file, unless it is an earlier subset of Kinetics' CSV `source`.

    Args:
        out: file to write.
        header: columns of the source.
        rows: rows of the source.
        source: Kinetics' CSV, for the message.

    Raises:
        FarfieldError: if `out` exists, is not empty, and has other columns than the source or a row that the source
            lacks.
    """
    if not out.is_file() or not out.stat().st_size:
        return
    known = {tuple(row.values()) for row in rows}
    try:
        with out.open(encoding="utf-8", errors="replace", newline="") as file:
            reader = csv.reader(file)
            is_subset = next(reader) == header and all(tuple(row) in known for row in reader if row)
    except csv.Error:
        is_subset = False
    if not is_subset:
        raise FarfieldError(f"{out} exists and is not an earlier subset of {source}. Choose another name.")


def _write_kinetics_csv(out: Path, header: list[str], rows: list[dict[str, str]]) -> Subset:
    with atomic_write(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return Subset(out, sorted({row["label"] for row in rows}), len(rows), [], None)


def _write_manifest(
    out: Path, chosen: list[VideoRecord], folder: Path, origin: dict[str, Any], skipped: SkippedFiles
) -> Subset:
    """Write the manifest of the chosen videos that exist, and a record of the choice beside it.

    Args:
        out: manifest to write.
        chosen: rows of the chosen videos.
        folder: folder that the paths of `chosen` are relative to.
        origin: source and criteria of the choice, to add to the record.
        skipped: skipped files, to add to the result.
    """
    missing = [str(folder / record.path) for record in chosen if not (folder / record.path).exists()]
    present = [record for record in chosen if (folder / record.path).exists()]
    if not present:
        raise FarfieldError(
            f"no chosen video exists ({len(chosen)} chosen). The first missing video is {missing[0]}. Give the folder "
            "of the videos as 'root'."
        )
    placed = [replace(record, path=path_in_manifest(out.parent, folder, record.path)) for record in present]
    write_manifest(out, placed)
    digest = read_manifest(out).content_hash()
    labels = sorted({label for record in present for label in record.labels})
    about: dict[str, Any] = {"hash": digest} | origin
    about |= {"videos": len(present), "classes": len(labels), "missing": len(missing), "missing_videos": missing}
    with atomic_write(record_file(out)) as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n")
    return Subset(out, labels, len(present), missing, digest, skipped)


def _rank(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\0".join([str(seed), *names]).encode(errors="surrogateescape")).digest()


def _record_name(record: VideoRecord) -> str:
    return f"{Path(record.path).name} {record.start_seconds} {record.end_seconds}"


def _kinetics_name(row: dict[str, str]) -> str:
    return f"{row['youtube_id']} {row['time_start']}"
