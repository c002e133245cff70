"""Split a collection into training, validation and test manifests, or into folds, without dividing groups."""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farfield.atomic_write import atomic_write
from farfield.curation.group_assignment import assign
from farfield.curation.groups import Siblings, find_siblings, read_with_groups
from farfield.curation.manifest_output import path_in_manifest
from farfield.data.manifest import Manifest, read_manifest, write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

RECORD = "split.json"
"""File in the output folder that records how the split was made."""

_NAMES = {2: ("train", "val"), 3: ("train", "val", "test")}


@dataclass(frozen=True)
class SplitResult:
    """Manifests that `split` wrote.

    Attributes:
        manifests: path of each manifest, by its name, such as "train" or "fold_1/test".
        videos: number of rows of each manifest.
        classes: number of rows of each class in each manifest: classes["walk"]["train"].
        groups: number of groups in the collection; each video without a group counts as a group.
        ungrouped: number of videos without a group, if other videos have one; 0 if no video has one.
        kept: number of groups that stayed where an earlier split had put them.
        siblings: pattern in file names which suggests that several videos come from one source; None if any row has a
            group, or no pattern was found.
    """

    manifests: dict[str, Path]
    videos: dict[str, int]
    classes: dict[str, dict[str, int]]
    groups: int
    ungrouped: int
    kept: int
    siblings: Siblings | None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain types, for JSON."""
        siblings = None if self.siblings is None else vars(self.siblings)
        manifests = {name: str(path) for name, path in self.manifests.items()}
        return vars(self) | {"manifests": manifests, "siblings": siblings}


def split(
    source: str | Path,
    out: str | Path | None = None,
    *,
    fractions: list[float] | None = None,
    names: list[str] | None = None,
    folds: int | None = None,
    group: str | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    overwrite: bool = False,
) -> SplitResult:
    """Split a manifest into train.csv, val.csv and test.csv, or into folds for cross-validation.

    The videos of every class are divided in the proportions of the fractions. Groups are kept whole: all videos of one
    person, camera or source video go to one split, as do all segments of one video. A hash of the seed and the group's
    name chooses the split of a group. The group goes to another split if the chosen one would get more than its
    fraction of a class, or if some split would otherwise have no video of a class. If the output folder holds an
    earlier split, its groups stay where they are, and only new groups are distributed.

    Args:
        source: manifest of all videos.
        out: folder for the manifests, and for split.json, which records the options of the split; None for the
            manifest's folder.
        fractions: share of each split; they add up to 1. None for 0.7 0.15 0.15.
        names: name of each split; None for train and val if there are two fractions, and for train, val and test if
            there are three. Any other number of fractions needs `names`.
        folds: number of folds, to make folds instead of splits: fold_1/train.csv, fold_1/test.csv, fold_2/train.csv,
            ... Each video is in the test manifest of one fold and in the training manifests of the others. `fractions`
            and `names` must then be None.
        group: how to find the group of a video; groups are never divided. Either a column of the manifest, or a regular
            expression whose parentheses match the group in the file name, such as '^([a-z]+)_' for daria_walk.avi. An
            expression that contains a slash is searched in the path. None for the manifest's column `group`; without
            this column, each video is a group.
        seed: seed of the hash that chooses the split of a group.
        root: folder that the manifest's paths are relative to; None for the manifest's folder.
        overwrite: replace an earlier split in the output folder instead of extending it.

    Raises:
        FarfieldError: for impossible fractions, a class with fewer groups than splits, an earlier split with other
            options, or output files that are not an earlier split.
    """
    plan = _plan(fractions, names, folds)
    manifest = read_with_groups(source, group, root)
    folder = Path(source).parent if out is None else Path(out)
    files = {name: folder / f"{name}.csv" for name in plan.members}
    options = {"fractions": plan.shares, "names": plan.parts, "folds": folds, "group": group, "seed": seed}
    _check_output(folder, files, options, Path(source), overwrite)
    earlier = {} if overwrite else _earlier_parts(plan, files)
    records = list(manifest)
    rows_of = _rows_of_groups(manifest)
    grouped = any(record.group is not None for record in records)
    fixed = _fixed_groups(rows_of, manifest, earlier)
    counts = {key: _count_labels(records[row] for row in rows) for key, rows in rows_of.items()}
    chosen = assign(counts, plan.shares, names=plan.parts, seed=seed, fixed=fixed)
    part_of = {row: plan.parts[chosen[key]] for key, rows in rows_of.items() for row in rows}
    written = {
        name: [record for row, record in enumerate(records) if part_of[row] in members]
        for name, members in plan.members.items()
    }
    _write(folder, files, written, manifest.root, options)
    counted = {name: _count_labels(rows) for name, rows in written.items()}
    return SplitResult(
        manifests=files,
        videos={name: len(rows) for name, rows in written.items()},
        classes={label: {name: counted[name][label] for name in files} for label in sorted(_count_labels(records))},
        groups=len(rows_of),
        ungrouped=sum(key.startswith("video ") for key in rows_of) if grouped else 0,
        kept=len(fixed),
        siblings=None if grouped else find_siblings(records),
    )


def _count_labels(records: Iterable[VideoRecord]) -> Counter[str]:
    """Count rows by label; a row without a label counts for the label ""."""
    return Counter(label for record in records for label in set(record.labels) or {""})


@dataclass(frozen=True)
class _Plan:
    """Parts of a split, and manifests to write from them.

    Attributes:
        parts: name of each part; a part is a split, such as "train", or a fold. Each group is assigned to one part.
        shares: share of the videos of every class that each part gets.
        members: names of the parts whose videos a manifest lists, by the manifest's name. A fold's training manifest
            lists all other folds.
    """

    parts: list[str]
    shares: list[float]
    members: dict[str, set[str]]


def _plan(fractions: list[float] | None, names: list[str] | None, folds: int | None) -> _Plan:
    if folds is not None:
        if fractions is not None or names is not None:
            raise FarfieldError(
                "folds is given together with fractions or names. Leave fractions and names out: folds are equal and "
                "numbered."
            )
        if folds < 2:
            raise FarfieldError(f"folds is {folds}; it must be at least 2.")
        parts = [f"fold_{number}" for number in range(1, folds + 1)]
        members: dict[str, set[str]] = {}
        for part in parts:
            members |= {f"{part}/train": set(parts) - {part}, f"{part}/test": {part}}
        return _Plan(parts, [1 / folds] * folds, members)
    shares = [0.7, 0.15, 0.15] if fractions is None else [float(share) for share in fractions]
    if names is None and len(shares) not in _NAMES:
        raise FarfieldError(f"fractions is {shares}. Give 2 or 3 fractions, or a name for each fraction (names).")
    parts = list(_NAMES[len(shares)]) if names is None else list(names)
    if len(parts) != len(shares) or len(set(parts)) < len(parts):
        raise FarfieldError(f"names is {parts}; it must hold a different name for each of the {len(shares)} fractions.")
    for part in parts:
        if not part or Path(part).name != part or part.startswith("."):
            raise FarfieldError(
                f"names has {part!r}, which cannot be the name of a manifest. Give a name without a folder and "
                "without a dot at its start, such as train."
            )
    if min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise FarfieldError(f"fractions is {shares}. Give positive numbers that add up to 1, such as 0.7 0.15 0.15.")
    return _Plan(parts, shares, {part: {part} for part in parts})


def _check_output(
    folder: Path, files: Mapping[str, Path], options: dict[str, Any], source: Path, overwrite: bool
) -> None:
    """Refuse to replace the source, files that are not an earlier split, or a split made with other options.

    `files` has the path of each manifest to write, by its name. `overwrite` allows replacing a split made with other
    options.
    """
    if any(path.resolve() == source.resolve() for path in files.values()):
        raise FarfieldError(f"{source} would be overwritten by one of the splits. Give another output folder (out).")
    there = [path for path in files.values() if path.exists()]
    record = folder / RECORD
    if not there and not record.exists():
        return
    try:
        about = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = None
    if not isinstance(about, dict):
        state = "does not describe a split" if record.exists() else "is missing"
        raise FarfieldError(
            f"{(there or [record])[0]} exists, but is not known to come from an earlier split: {RECORD} {state}. Give "
            "another output folder (out), or move the existing file away."
        )
    differing = [name for name, value in options.items() if about.get(name) != value]
    if differing and not overwrite:
        was = ", ".join(f"{name} was {about.get(name)} and is now {options[name]}" for name in differing)
        raise FarfieldError(
            f"{folder} holds a split made with other options: {was}. Give the same options to extend it, "
            "overwrite=True (--overwrite) to replace it, or another output folder (out)."
        )


def _earlier_parts(plan: _Plan, files: Mapping[str, Path]) -> dict[Path, str]:
    """Read the manifests of an earlier split; return {absolute path of a video: part of the split, see `_Plan`}."""
    parts: dict[Path, str] = {}
    for name, members in plan.members.items():
        if len(members) == 1 and files[name].exists():  # not the training manifests of folds
            manifest = read_manifest(files[name])
            parts |= {_file(manifest, row): min(members) for row in range(len(manifest))}
    return parts


def _file(manifest: Manifest, row: int) -> Path:
    """Return the absolute path of a row's video, to recognise the video in another manifest."""
    path = manifest.path(row)
    return path.parent.resolve() / path.name


def _rows_of_groups(manifest: Manifest) -> dict[str, list[int]]:
    """Return the row indices of each group. A video without a group forms its own group, with all its segments.

    Rows are of one video if their paths lead to the same file, such as a.mp4 and ./a.mp4.
    """
    group_of: dict[tuple[str, str], str] = {}
    spelling: dict[tuple[str, str], str] = {}
    folders: dict[str, str] = {}
    rows: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(manifest):
        folder, name = os.path.split(record.path)
        if folder not in folders:
            folders[folder] = os.path.realpath(manifest.root / folder)
        file = folders[folder], name
        path = spelling.setdefault(file, record.path)
        key = f"video {path}" if record.group is None else f"group {record.group}"
        known = group_of.setdefault(file, key)
        if known != key:
            raise FarfieldError(
                f"{record.path} has rows of two groups: {known.partition(' ')[2]!r} and {key.partition(' ')[2]!r}. "
                "A video must not be divided: give all its rows the same group."
            )
        rows[key].append(row)
    return rows


def _fixed_groups(rows_of: Mapping[str, list[int]], manifest: Manifest, earlier: Mapping[Path, str]) -> dict[str, str]:
    """Return the part (see `_Plan`) of each group that has a video in an earlier split.

    Args:
        rows_of: row indices of each group.
        manifest: manifest of all videos.
        earlier: part of each video in the earlier split, by the video's absolute path.

    Raises:
        FarfieldError: if the earlier split divides a group, or if it has no video of the manifest.
    """
    fixed: dict[str, str] = {}
    for key, rows in rows_of.items() if earlier else ():
        parts = sorted({earlier[file] for row in rows if (file := _file(manifest, row)) in earlier})
        if len(parts) > 1:
            raise FarfieldError(
                f"the earlier split has videos of {key} in {' and '.join(parts)}, but a group must not be divided. "
                "Give overwrite=True (--overwrite) to split again, or another output folder (out)."
            )
        if parts:
            fixed[key] = parts[0]
    if earlier and not fixed:
        raise FarfieldError(
            f"no row of the earlier split is in {manifest.source}, so the earlier split is of another "
            "collection. Give overwrite=True (--overwrite) to replace it, or another output folder (out)."
        )
    return fixed


def _write(
    folder: Path,
    files: Mapping[str, Path],
    written: Mapping[str, Sequence[VideoRecord]],
    root: Path,
    options: dict[str, Any],
) -> None:
    try:
        for name, path in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [replace(each, path=path_in_manifest(path.parent, root, each.path)) for each in written[name]]
            write_manifest(path, rows)
        with atomic_write(folder / RECORD) as temporary:
            temporary.write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise FarfieldError(
            f"{folder} cannot be written: {error.strerror or error}. Give another output folder (out)."
        ) from error
