"""Build a manifest from a collection of videos in one of several annotation formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.ava import refuse_ava, refuse_boxes
from farfield.curation.formats.registry import FORMATS, FormatName
from farfield.curation.frame_rate_option import check_fps
from farfield.curation.manifest_output import make_parent_folder, path_in_manifest, refuse_to_replace_other_files
from farfield.data.manifest import write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest
from farfield.parallel import for_each
from farfield.progress import ProgressBar
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import open_video
from farfield.video.frame_folder import check_picture_sizes


@dataclass(frozen=True)
class Index:
    """Result of indexing.

    Attributes:
        records: manifest rows of the readable videos.
        failures: (path or name, reason) of each missing or unreadable video, of each segment that begins after its
            video's end, and of each entry of the annotations that is not used.
        skipped: files that the scan of the folder skipped. Empty if the annotations list all paths, because the folder
            is not scanned in this case.
    """

    records: list[VideoRecord]
    failures: list[tuple[str, str]]
    skipped: SkippedFiles

    @property
    def num_videos(self) -> int:
        return _num_videos(self.records)

    @property
    def num_classes(self) -> int:
        return len({label for record in self.records for label in record.labels})


def index_videos(
    root: str | Path,
    out: str | Path,
    *,
    format: FormatName = "folders",
    annotations: str | Path | None = None,
    labels: str | Path | None = None,
    subset: str | None = None,
    split: int | None = None,
    label_column: str | None = None,
    columns: dict[str, str] | None = None,
    fps: float | None = None,
    first_label: int | None = None,
    unlabelled_as_none: bool = False,
    num_workers: int | None = None,
    list_left_out: bool = False,
    decoder: Decoder = "pyav",
    progress: bool = True,
) -> Index:
    """Index a collection: write a manifest that lists the length, frame rate and frame size of each video.

    Each video is opened once. Unreadable videos, and segments that begin after their video's end, are reported and left
    out of the manifest. Links to files and folders are followed. Skipped files and folders, such as hidden ones and
    files without a video suffix, are counted by reason.

    Args:
        root: folder that holds the videos: video files and, if `fps` is given, folders of numbered pictures.
        out: manifest to write (CSV). Video paths in it are relative to the manifest's folder; paths of videos outside
            this folder are absolute.
        format: "folders" for root/label/.../video; "table" for any CSV, TSV or JSON lines; otherwise the data set,
            project or labelling tool whose annotations are given. docs/guides/annotation_formats.md describes the
            formats.
        annotations: file or folder of the annotations; None if format is "folders".
        labels: file of class names, or folder of such files, in the form that the format requires; None keeps the
            labels of the annotations, which may be numbers or codes.
        subset: subset to read, such as "validation", if the annotations hold several; None for all.
        split: number of the official split, if the data set has several.
        label_column: column, attribute or field that holds the label, if several may hold it.
        columns: for "table", the names of the table's columns, if they differ from those of a manifest. For example,
            path=file,label=action reads paths from the column "file". The fields are path, label, start, end and group;
            times are in seconds or HH:MM:SS. For "labelstudio", the names of keys in the tasks' data, for the fields
            path, group and fps (the frame rate).
        fps: frame rate of folders of numbered pictures, required to read them. For exports of labelling tools that give
            frame numbers, the rate also converts these numbers to seconds. labelstudio needs it for timelines, unless
            the data of every task hold the rate (see `columns`). For cvat and fiftyone, None takes each video's own
            frame rate. A rate in the export takes precedence over this option and over the video's own rate.
        first_label: number of the first class, 0 or 1, if labels are numbers; None to derive it from the file of class
            names and from the labels.
        unlabelled_as_none: keep annotated videos that have no label, with an empty label (none of the classes), instead
            of leaving them out. Only for labelstudio, cvat, fiftyone and eaf.
        num_workers: number of processes; None for the number of cores.
        list_left_out: list every skipped file, with the reason.
        decoder: decoder that opens the videos: pyav or decord.
        progress: show a progress bar on standard error.

    Raises:
        FarfieldError: for a missing folder or file, an existing output file that is not a manifest, annotations or
            labels that do not fit the format, a malformed line, or no readable video.
    """
    folder, target = Path(root), Path(out)
    refuse_to_replace_other_files(target)
    options: dict[str, Any] = {
        "labels": None if labels is None else Path(labels),
        "subset": subset,
        "split": split,
        "label_column": label_column,
        "columns": columns or {},
        "fps": fps,
        "first_label": first_label,
        "unlabelled_as_none": unlabelled_as_none,
    }
    _check(root, format, annotations, options)
    check_fps(fps)
    make_parent_folder(target)
    source = AnnotationSource(folder, Path(annotations or root), skipped=SkippedFiles(list_left_out), **options)
    listed = _read_annotations(source, format)
    present, missing = _separate_missing(folder, listed)
    records, unusable = _probe_all(folder, present, fps, num_workers, decoder, progress)
    failures = list(dict.fromkeys([*source.left_out, *missing, *unusable]))  # once for all segments of a video
    if not records:
        raise FarfieldError(
            f"no video can be read ({_num_videos(listed)} tried). The first failure is {failures[0][0]}: "
            f"{failures[0][1]}."
        )
    write_manifest(target, [replace(r, path=path_in_manifest(target.parent, folder, r.path)) for r in records])
    return Index(records, failures, source.skipped)


def _num_videos(records: list[VideoRecord]) -> int:
    return len({record.path for record in records})


def _read_annotations(source: AnnotationSource, format: FormatName) -> list[VideoRecord]:
    """Return the rows that the annotations list; raise a `FarfieldError` if there are no rows."""
    listed = list(FORMATS[format].read(source))
    if not listed and source.left_out:
        name, reason = source.left_out[0]
        raise FarfieldError(
            f"no annotated video can be used ({len({name for name, _ in source.left_out})} left out). The first is "
            f"{name}: {reason}."
        )
    if not listed:
        about = source.skipped.sentence()
        words = [
            f"no videos found under {source.root} in the format {format!r}.",
            about,
            "Give another root or format.",
        ]
        raise FarfieldError(" ".join(word for word in words if word))
    return listed


def _separate_missing(root: Path, listed: list[VideoRecord]) -> tuple[list[VideoRecord], list[tuple[str, str]]]:
    """Return the rows whose video exists, and (path, reason) of the others."""
    exists = [(root / record.path).exists() for record in listed]
    present = [record for record, is_there in zip(listed, exists, strict=True) if is_there]
    missing = [record for record, is_there in zip(listed, exists, strict=True) if not is_there]
    return present, [(str(root / record.path), "there is no such file") for record in missing]


def _check(root: str | Path, format: str, annotations: object, options: Mapping[str, object]) -> None:
    if not Path(root).is_dir():
        raise FarfieldError(f"root is {root}, which is not a folder. Give the folder of the videos.")
    if format not in FORMATS:
        raise FarfieldError(f"format is {format!r}. {nearest(format, FORMATS)}")
    if isinstance(annotations, str | Path):
        refuse_boxes(Path(annotations))
    if format == "ava":
        refuse_ava()
    needed = FORMATS[format].annotations
    if needed is not None and annotations is None:
        raise FarfieldError(f"format={format!r} needs annotations. Give {needed}.")
    given = {name for name, value in options.items() if not (value is None or value is False or value == {})}
    given -= FORMATS[format].options
    if annotations is not None and needed is None:
        given.add("annotations")
    for name in sorted(given):
        takers = [each for each, about in FORMATS.items() if name in about.options]
        if name == "annotations":
            takers = [each for each, about in FORMATS.items() if about.annotations]
        raise FarfieldError(
            f"format={format!r} takes no {name}. Leave {name} out, or give one of these formats: {', '.join(takers)}."
        )


def _probe_all(
    root: Path,
    records: list[VideoRecord],
    fps: float | None,
    num_workers: int | None,
    decoder: Decoder,
    progress: bool,
) -> tuple[list[VideoRecord], list[tuple[str, str]]]:
    """Open each video once, in parallel, and add its length, frame rate and frame size to its records.

    `fps` is the frame rate of folders of pictures whose record has none.

    Returns:
        (records, failures): the completed records in order; and (path, reason) of each unreadable video and of each
        segment that begins after its video's end.
    """
    rates = {record.path: record.fps or fps for record in reversed(records)}
    jobs = [(root / path, decoder, rates[path]) for path in dict.fromkeys(record.path for record in records)]
    found: dict[Path, _Probed | str] = {}
    running = for_each(_probe, jobs, num_workers=num_workers)
    for (path, *_), result in ProgressBar(running, "index", len(jobs), unit="video", disable=not progress):
        found[path] = result
    usable: list[VideoRecord] = []
    failures: list[tuple[str, str]] = []
    for record in records:
        probed = found[root / record.path]
        if isinstance(probed, str):
            failures.append((str(root / record.path), probed))
        elif record.start_seconds is not None and record.start_seconds - 1e-6 > probed.last_frame_seconds:
            failures.append((str(root / record.path), _after_the_end(record, probed.last_frame_seconds)))
        else:
            usable.append(replace(record, **probed.columns))
    return usable, failures


def _after_the_end(record: VideoRecord, last_frame_seconds: float) -> str:
    end = "end" if record.end_seconds is None else f"{record.end_seconds:g}"
    return (
        f"the segment [{record.start_seconds:g}, {end}) s begins after the video's end; the video's last frame is at "
        f"{last_frame_seconds:.3f} s"
    )


@dataclass(frozen=True)
class _Probed:
    columns: dict[str, Any]
    """Values of the manifest's columns from num_frames to duration_seconds."""
    last_frame_seconds: float


def _probe(job: tuple[Path, Decoder, float | None]) -> _Probed:
    """Open a video, in a worker process; return its number of frames, frame rate, width, height and duration.

    `job` is (path, decoder, frame rate of a folder of pictures); the rate is None if it is unknown.
    """
    path, decoder, fps = job
    with open_video(path, decoder, fps=fps) as video:
        height, width = video.frames(np.array([0])).shape[1:3]
        times = video.times
    if fps is not None and path.is_dir():
        check_picture_sizes(path)
        rate, duration = fps, len(times) / fps
    else:
        spacing = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
        duration = float(times[-1] - times[0]) + spacing
        rate = round(len(times) / duration, 3)
    size = {"width": width, "height": height}
    columns = {"num_frames": len(times), "fps": rate, **size, "duration_seconds": round(duration, 3)}
    return _Probed(columns, float(times[-1]))
