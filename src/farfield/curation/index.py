"""Manifests from what collections come as: a folder tree, Kinetics' CSV, PySlowFast's and MMAction2's lists."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from tqdm import tqdm

from farfield.curation.folder_scan import LeftOut, Reason, hidden_reason, scan_folder
from farfield.data.manifest import VideoRecord, write_manifest
from farfield.errors import FarfieldError
from farfield.parallel import for_each
from farfield.video.decoders import Decoder, open_video

Format = Literal["folders", "kinetics", "pyslowfast", "mmaction2"]
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
"""What collections call the folders above those of their classes."""


@dataclass(frozen=True)
class Index:
    """What indexing brought out.

    Attributes:
        records: rows of readable videos.
        failures: (path, reason) of videos that cannot be read, or are not there.
        left_out: account of what the scan of the folder passed over; of nothing for lists, which name their videos.
    """

    records: list[VideoRecord]
    failures: list[tuple[str, str]]
    left_out: LeftOut = field(default_factory=LeftOut)


def index_videos(
    root: str,
    out: str,
    *,
    format: Format = "folders",
    annotations: str | None = None,
    labels: str | None = None,
    num_workers: int | None = None,
    list_left_out: bool = False,
    decoder: Decoder = "pyav",
) -> Index:
    """Builds a manifest. Every video is opened once, here, to note its length, rate and size; training never probes.

    Args:
        root: folder of the videos.
        out: manifest to write. Its paths are relative to its own folder, or absolute where `root` is elsewhere.
        format: what the collection comes as:
            "folders": root/label/.../video;
            "kinetics": videos named <id>_<start>_<end>.<suffix> anywhere under root, labelled by Kinetics' CSV
            (columns label, youtube_id, time_start, time_end);
            "pyslowfast": lines of `path label` or `path,label`, paths under root, label a number;
            "mmaction2": lines of `path label`, the same.
        annotations: Kinetics' CSV or the list file; not needed for folders.
        labels: for lists, a file with one class name a line, in the order of the numbers; None keeps the numbers.
        num_workers: processes that open videos; None for the number of cores.
        list_left_out: keep the names of what is passed over, not only the counts.
        decoder: decoder that opens the videos, see `open_video`.

    Raises:
        FarfieldError: for a missing folder or file, a format without its annotations, a malformed line, or no video.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise FarfieldError(f"root is {root}, which is no folder.")
    if format not in READERS:
        raise FarfieldError(f"format is {format!r}. Known: {', '.join(READERS)}.")
    if format != "folders" and annotations is None:
        raise FarfieldError(f"format={format!r} needs annotations: the file that lists the videos.")
    for name, value, takers in (("annotations", annotations, list(READERS)[1:]), ("labels", labels, _WITH_NUMBERS)):
        if value is not None and format not in takers:
            raise FarfieldError(f"format={format!r} takes no {name}; {', '.join(takers)} do. Leave it out.")
    make_room(Path(out))
    lines = Path(annotations) if annotations else folder
    names = None if labels is None else class_names(Path(labels))
    left_out = LeftOut(list_left_out)
    listed = list(READERS[format](folder, lines, names, left_out))
    if not listed:
        raise FarfieldError(f"no videos found under {root} in the format {format!r}. {left_out.sentence()}".strip())
    missing = [
        (str(folder / record.path), "there is no such file")
        for record in listed
        if not (folder / record.path).is_file()
    ]
    there = [record for record in listed if (folder / record.path).is_file()]
    probed: dict[VideoRecord, VideoRecord | tuple[str, str]] = {}
    jobs = [(folder, record, decoder) for record in there]
    for (_, record, _), result in tqdm(
        for_each(_probe, jobs, num_workers=num_workers), "index", len(jobs), unit="video"
    ):
        probed[record] = (str(folder / record.path), result) if isinstance(result, str) else result
    found = [probed[record] for record in there]
    records = [record for record in found if isinstance(record, VideoRecord)]
    failures = missing + [failure for failure in found if not isinstance(failure, VideoRecord)]
    if not records:
        raise FarfieldError(
            f"none of the {len(listed)} videos can be read. The first: {failures[0][0]}: {failures[0][1]}."
        )
    target = Path(out)
    write_manifest(target, [replace(r, path=path_from(target.parent, folder, r.path)) for r in records])
    return Index(records, failures, left_out)


def videos_of_folder(root: Path, left_out: LeftOut, *, exclude: Path | None = None) -> list[VideoRecord]:
    """All videos under a folder, without labels, their paths relative to it."""
    return [VideoRecord(file.relative_to(root).as_posix(), "") for file in scan_folder(root, left_out, exclude=exclude)]


def classes_of_folder(root: Path, left_out: LeftOut, *, exclude: Path | None = None) -> list[VideoRecord]:
    """The videos of root/label/.../video.

    Args:
        root: the folder whose folders are the classes.
        left_out: account of what is passed over, videos beside the class folders and empty classes among it.
        exclude: a folder that is no part of the collection.

    Raises:
        FarfieldError: where the folders are splits, or the folder cannot be read.
    """
    shut = None if exclude is None else exclude.resolve()
    try:
        entries = sorted(entry for entry in root.iterdir() if entry.is_dir() and not hidden_reason(entry.name))
    except OSError as error:
        raise FarfieldError(f"the folder {root} cannot be read: {error.strerror}.") from error
    folders = [entry for entry in entries if entry.resolve() != shut]
    if folders and all(folder.name.casefold() in SPLITS for folder in folders):
        raise FarfieldError(
            f"the folders in {root} are splits, and would be taken for classes: "
            f"{', '.join(folder.name for folder in folders)}. Index each of them by itself."
        )
    records = []
    for record in videos_of_folder(root, left_out, exclude=exclude):
        label, *rest = PurePosixPath(record.path).parts
        if rest:
            records.append(replace(record, label=label))
        else:
            left_out.add(Reason.OUTSIDE_CLASSES, root / record.path)
    found, own = {record.label for record in records}, root.resolve()
    for folder in folders:
        target = folder.resolve()
        elsewhere = not folder.is_symlink() or not (target.is_relative_to(own) or own.is_relative_to(target))
        if folder.name not in found and elsewhere:  # another link is accounted for already
            left_out.add(Reason.EMPTY_CLASS, folder)
    return records


def _folders(root: Path, _annotations: Path, _names: list[str] | None, left_out: LeftOut) -> Iterator[VideoRecord]:
    yield from classes_of_folder(root, left_out)


def _kinetics(root: Path, annotations: Path, _names: list[str] | None, left_out: LeftOut) -> Iterator[VideoRecord]:
    """`<id>_<start>_<end>`: the video is the segment already, so the manifest gives none."""
    by_clip: dict[tuple[str, int], str] = {}
    for file in scan_folder(root, left_out):
        clip = kinetics_clip(file.stem)
        if clip is None:
            left_out.add(Reason.OTHER_NAME, file)
            continue
        if clip in by_clip:  # the later one counts: Kinetics' replacement_for_corrupted_k400 comes after the parts
            left_out.add(Reason.SAME_CLIP, root / by_clip[clip])
        by_clip[clip] = file.relative_to(root).as_posix()
    annotated = set()
    for (youtube_id, start), label in kinetics_annotations(annotations):
        annotated.add((youtube_id, start))
        # A clip that was never downloaded keeps its row's name, and is reported as missing.
        name = by_clip.get((youtube_id, start), f"{youtube_id}_{start:06d}_{start + 10:06d}.mp4")
        yield VideoRecord(name, label)
    for clip in by_clip.keys() - annotated:
        left_out.add(Reason.NOT_ANNOTATED, root / by_clip[clip])


def kinetics_clip(stem: str) -> tuple[str, int] | None:
    """YouTube's id and the start in seconds that a file of Kinetics is named for; None for other names."""
    named = re.fullmatch(r"(.{11})_(\d+)_(\d+)", stem)
    return (named[1], int(named[2])) if named else None


def kinetics_annotations(path: Path) -> Iterator[tuple[tuple[str, int], str]]:
    """((YouTube's id, start in seconds), label) of each row of Kinetics' CSV.

    Raises:
        FarfieldError: for a file that is not there, or another one.
    """
    reader = csv.DictReader(io.StringIO(_text(path, "Give Kinetics' CSV, as train.csv or validate.csv."), newline=""))
    needed = {"label", "youtube_id", "time_start"}
    if not needed <= set(reader.fieldnames or ()):
        raise FarfieldError(
            f"{path} lacks columns {sorted(needed - set(reader.fieldnames or ()))}; is it Kinetics' CSV?"
        )
    for line, row in enumerate(reader, start=2):
        try:
            start = int(float(row["time_start"]))
        except (TypeError, ValueError):
            raise FarfieldError(f"{path}, line {line}: time_start is {row['time_start']!r}, not seconds.") from None
        yield (row["youtube_id"], start), row["label"]


def _list(root: Path, annotations: Path, names: list[str] | None, _left_out: LeftOut) -> Iterator[VideoRecord]:
    content = _text(annotations, "Give a list with a line `path label` for each video.")
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        parts = re.fullmatch(r"\s*(.+?)\s*[\s,]\s*(\d+)\s*", text)  # the path may hold blanks, the label is a number
        if parts is None:
            raise FarfieldError(f"{annotations}, line {number}: {text!r} is not `path label` with a number as label.")
        path, label = parts[1], int(parts[2])
        if names is not None and label >= len(names):
            raise FarfieldError(f"{annotations}, line {number}: label {label}, but there are {len(names)} class names.")
        inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path(path)
        yield VideoRecord(inside.as_posix(), str(label) if names is None else names[label])


_WITH_NUMBERS = ["pyslowfast", "mmaction2"]

READERS: dict[str, Callable[[Path, Path, list[str] | None, LeftOut], Iterator[VideoRecord]]] = {
    "folders": _folders,
    "kinetics": _kinetics,
    "pyslowfast": _list,
    "mmaction2": _list,
}


def class_names(path: Path) -> list[str]:
    """Read the class names of a file, one a line.

    Raises:
        FarfieldError: for a file that is not there, is no text, or has a name twice: two classes would become one.
    """
    content = _text(path, "Give one with one class name a line.", kind="file of class names at ")
    lines: dict[str, list[int]] = {}
    for number, line in enumerate(content.split("\n"), start=1):
        if name := line.strip():
            lines.setdefault(name, []).append(number)
    twice = {name: numbers for name, numbers in lines.items() if len(numbers) > 1}
    if twice:
        where = "; ".join(f"{name!r} on lines {', '.join(map(str, twice[name]))}" for name in list(twice)[:5])
        more = f"; and {len(twice) - 5} more" if len(twice) > 5 else ""
        raise FarfieldError(
            f"{path} has a class name more than once: {where}{more}. Classes of one name would become one: give each "
            "its own name, or leave out what is there by mistake."
        )
    return list(lines)


def _text(path: Path, needed: str, *, kind: str = "file ") -> str:
    if not path.is_file():
        raise FarfieldError(f"there is no {kind}{path}. {needed}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FarfieldError(f"{path} is no text in UTF-8: {error}") from error


def make_room(out: Path) -> None:
    """Makes the folder of a file that is to be written, before the work of making it is done.

    Raises:
        FarfieldError: where the file cannot be written for what is there already.
    """
    if out.is_dir():
        raise FarfieldError(f"{out} is a folder. Name a file, as {out / 'manifest.csv'}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarfieldError(f"{out.parent} cannot be made: {error.strerror}.") from error


def _probe(job: tuple[Path, VideoRecord, Decoder]) -> VideoRecord:
    """Open a video, and return its row with its length, rate and size."""
    root, record, decoder = job
    with open_video(root / record.path, decoder) as video:
        height, width = video.frames(np.array([0])).shape[1:3]
        times = video.times
    spacing = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    duration = float(times[-1] - times[0]) + spacing
    return replace(
        record,
        num_frames=len(times),
        fps=round(len(times) / duration, 3),
        width=width,
        height=height,
        duration_seconds=round(duration, 3),
    )


def path_from(folder: Path, root: Path, inside: str) -> str:
    """A video's path in a manifest: relative where it lies under the manifest's folder, so that both can be moved.

    Links keep their own names: a store that names files by their content links to them.

    Args:
        folder: the manifest's.
        root: of the videos.
        inside: the video's path under `root`, or an absolute one.
    """
    video = root / inside
    places = [(folder.resolve(), (root.resolve() / inside))]
    if ".." in PurePosixPath(inside).parts:  # only what the link leads to tells where that is
        places = [(folder.resolve(), video.parent.resolve() / video.name)]
    elif ".." not in {*folder.parts, *video.parts}:
        places = [(folder.absolute(), video.absolute()), *places]
    for base, file in places:
        if file.is_relative_to(base):
            relative = file.relative_to(base).as_posix()
            # A manifest's reader leaves blanks around a value out.
            return relative if relative == relative.strip() else f"./{relative}"
    return str(places[0][1])
