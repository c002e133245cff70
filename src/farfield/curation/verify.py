"""Check a collection for undecodable videos, duplicates, leaks between splits, and classes without videos."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from farfield.curation.class_names import read_class_names
from farfield.curation.collection_plot import plot_collection
from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.folders import classes_of_folder, videos_of_folder
from farfield.curation.formats.kinetics import parse_clip_name
from farfield.curation.frame_rate_option import check_fps, fill_fps
from farfield.curation.groups import find_groups, read_with_groups
from farfield.curation.inspected_split import InspectedSplit
from farfield.curation.inspection import Inspected, InspectionJob, inspect
from farfield.curation.manifest_output import path_in_manifest
from farfield.curation.near_duplicates import find_near_duplicates
from farfield.data.manifest import write_manifest
from farfield.errors import FarfieldError
from farfield.parallel import Engine, for_each
from farfield.progress import ProgressBar
from farfield.reports.verify_report_markdown import render_verify_report
from farfield.video.decoder_names import Decoder


@dataclass(frozen=True)
class VerificationReport:
    """Result of verifying a collection.

    Attributes:
        videos: number of videos in all splits. A video with several rows, such as one for each segment, counts once.
        undecodable: (path, reason) of each video that cannot be decoded, or whose manifest row contradicts the file
            (wrong number of frames, or a segment without frames).
        same_file: groups of paths whose files have the same content.
        look_alike: pairs of paths of near-duplicates, which are files with different content that look the same.
        leaks: (path, split, path, split, why) of pairs of related videos in different splits. Videos are related if
            they are the same file, near-duplicates, clips of one YouTube video, or videos of one group. Of the videos
            of one group, only the first in each split counts. If more than two videos are the same file, clips of one
            YouTube video or videos of one group, only pairs with the first of them are listed. Videos in `undecodable`
            are not considered.
        other_labels: (path, label, path, label) of two rows with the same content and segment but different labels. If
            more than two rows have the same content and segment, each is compared only with the first of them.
        repeated_rows: (split, path, count) of each row that occurs more than once in a manifest.
        classes_without_videos: (split, label) of each class without a decodable video in the split.
        decord: results of comparing decord's frames with PyAV's on a sample of the videos: the number of videos with
            each of the results "agrees", "differs", "cannot read it" and "not compared". A video is not compared if
            farfield reads it with PyAV even when decord is requested.
        not_compared: number of videos with the result "not compared", by reason. A reason says why farfield reads the
            videos with PyAV.
        decord_differs_on: paths of the videos with the result "differs".
        durations: percentiles of the videos' durations in seconds, with the keys "0%", "5%", "25%", "50%", "75%", "95%"
            and "100%".
        resolutions: number of videos of each "width x height".
        hours: total duration of the videos.
        skipped: files and subfolders that were skipped when folders were scanned; they do not count as problems.
        decoder: decoder that was requested.
        fallbacks: number of videos that PyAV decoded although decord was requested, by reason. These videos do not
            count as problems.
    """

    videos: int
    undecodable: list[tuple[str, str]]
    same_file: list[list[str]]
    look_alike: list[tuple[str, str]]
    leaks: list[tuple[str, str, str, str, str]]
    other_labels: list[tuple[str, str, str, str]]
    repeated_rows: list[tuple[str, str, int]]
    classes_without_videos: list[tuple[str, str]]
    decord: dict[str, int]
    decord_differs_on: list[str]
    durations: dict[str, float]
    resolutions: dict[str, int]
    hours: float
    skipped: SkippedFiles = field(default_factory=SkippedFiles)
    decoder: Decoder = "pyav"
    fallbacks: dict[str, int] = field(default_factory=dict)
    not_compared: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain types, for JSON."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "skipped"}
        return plain | {"left_out": self.skipped.as_dict()}

    def is_healthy(self) -> bool:
        """Return whether no problem was found."""
        return not (
            self.undecodable
            or self.same_file
            or self.look_alike
            or self.leaks
            or self.other_labels
            or self.repeated_rows
            or self.classes_without_videos
            or self.decord_differs_on
        )

    def reasons(self) -> dict[str, int]:
        """Count the undecodable videos by reason, most frequent first."""
        return dict(Counter(reason for _, reason in self.undecodable).most_common())


def verify(
    sources: Sequence[str | Path],
    out: str | Path = "verify",
    *,
    root: str | Path | None = None,
    group: str | None = None,
    class_file: str | Path | None = None,
    num_workers: int | None = None,
    seconds_per_video: float = 120,
    sample: int = 50,
    engine: Engine = "local",
    list_left_out: bool = False,
    progress: bool = True,
    decoder: Decoder = "pyav",
    fps: float | None = None,
) -> VerificationReport:
    """Decode every video of a collection completely, and find duplicates, leaks between splits and missing classes.

    Each video is decoded in a child process with a time limit, so that a hang or a crash of the decoder affects only
    that video. The folder `out` gets a report, plots, quarantine.csv (the undecodable videos), and for each split with
    labels a manifest of its decodable videos. The exit status of `farfield data verify` is 0 if no problem was found,
    else 1.

    Args:
        sources: for each split, a manifest or a folder of videos, for example train.csv val.csv test.csv. A folder with
            a file manifest.csv, such as one made by `data prepare`, counts as this manifest; `root` and `fps` do not
            apply to it.
        out: folder for report.md, report.json, collection.png, quarantine.csv and the manifests.
        root: folder that the manifests' paths are relative to; None for the folder of each manifest.
        group: how to find the group of a video, for example the person in it, as in `data split`. Either a column of
            the manifests, or a regular expression for the file names, such as '^([a-z]+)_' for the person in
            daria_walk.avi. None for the column `group`, if there is one. A group in two splits is a leak.
        class_file: file with the class names that every split should have, one per line; None for every class that
            occurs in any split.
        num_workers: number of processes; None for one per core of this machine, or of the Ray cluster.
        seconds_per_video: time limit for one video. A video that takes longer counts as undecodable.
        sample: number of videos on which to compare decord's frames with PyAV's; 0 for no comparison.
        engine: local for processes on this machine; ray for the Ray cluster at RAY_ADDRESS, whose workers must see the
            same files.
        list_left_out: list every file that is skipped in a folder, with the reason. `farfield data verify` prints the
            list; in Python, the list is `VerificationReport.skipped.names`.
        progress: show a progress bar on standard error.
        decoder: decoder of the videos. With "decord", PyAV still decodes the files on which decord is not exact.
            decord conceals some of the damage that PyAV reports.
        fps: frame rate for folders of numbered pictures; a frame rate in the manifest takes precedence. Folders of
            pictures without any frame rate are not read.

    Raises:
        FarfieldError: for a source without videos, or a report that cannot be written.
    """
    if sample < 0:
        raise FarfieldError(f"sample is {sample}; it must be at least 0.")
    check_fps(fps)
    labels = None if class_file is None else read_class_names(class_file)
    skipped = SkippedFiles(list_left_out)
    splits = [_read_split(Path(source), root, group, fps, skipped) for source in sources]
    if len({split.name for split in splits}) < len(splits):
        raise FarfieldError(
            f"two of the splits {', '.join(split.name for split in splits)} have the same name. Splits are named after "
            "their manifest or folder. Rename one of the two manifests or folders."
        )
    folder = Path(out)
    for source, split in zip(sources, splits, strict=True):
        if split.name == "quarantine":
            raise FarfieldError(
                f"{source} must not be named quarantine: the report lists the undecodable videos in quarantine.csv. "
                f"Rename {source}."
            )
        if Path(source).resolve() == (folder / f"{split.name}.csv").resolve():
            raise FarfieldError(
                f"{source} would be overwritten by a file of the report. Give another folder for the report (out)."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarfieldError(
            f"{folder} cannot be created: {error.strerror}. Give another output folder (out)."
        ) from error
    _inspect_all(splits, sample, num_workers, seconds_per_video, engine, progress, decoder)
    diagnosis = replace(_diagnose(splits, labels), skipped=skipped, decoder=decoder)
    try:
        _write(splits, diagnosis, folder)
    except OSError as error:
        raise FarfieldError(
            f"{folder} cannot be written: {error.strerror or error}. Give another output folder (out)."
        ) from error
    return diagnosis


def _read_split(
    source: Path, root: str | Path | None, group: str | None, fps: float | None, skipped: SkippedFiles
) -> InspectedSplit:
    if (source / "manifest.csv").is_file():  # a store of `data prepare`
        store = read_with_groups(source / "manifest.csv", group)
        return InspectedSplit(source.resolve().name, list(store), store.root)
    if source.is_dir():
        skipped_here = SkippedFiles(skipped.keep_names)
        records = classes_of_folder(source, skipped_here, frame_folders=fps is not None)
        if not records:  # a folder without class folders
            skipped_here = SkippedFiles(skipped.keep_names)
            records = videos_of_folder(source, skipped_here, frame_folders=fps is not None)
        if not records:
            raise FarfieldError(f"the folder {source} holds no videos. {skipped_here.sentence()}".strip())
        skipped.update(skipped_here)
        return InspectedSplit(source.resolve().name, find_groups(fill_fps(records, fps), group), source)
    manifest = read_with_groups(source, group, root)
    return InspectedSplit(source.stem, fill_fps(manifest, fps), manifest.root)


def _inspect_all(
    splits: list[InspectedSplit],
    sample: int,
    num_workers: int | None,
    seconds: float,
    engine: Engine,
    progress: bool,
    decoder: Decoder,
) -> None:
    """Inspect each video once, and fill `InspectedSplit.inspected` and `InspectedSplit.reasons` for all of its rows.

    Args:
        splits: splits to fill. A video may have rows in several of them.
        sample: number of videos on which to compare decord with PyAV.
        num_workers: number of processes, see `verify`.
        seconds: time limit for one video.
        engine: see `verify`.
        progress: show a progress bar.
        decoder: decoder of the videos.
    """
    rows: dict[tuple[Path, float | None], list[tuple[InspectedSplit, int]]] = defaultdict(list)
    for split in splits:
        for i, record in enumerate(split.records):
            rows[split.paths[i].absolute(), record.fps].append((split, i))
    sampled = set(np.linspace(0, len(rows) - 1, min(sample, len(rows))).astype(int).tolist())
    jobs = [
        InspectionJob(path, tuple(split.records[i] for split, i in of_video), number in sampled, decoder)
        for number, ((path, _), of_video) in enumerate(rows.items())
    ]
    found: dict[InspectionJob, Inspected | str] = {}
    running = for_each(inspect, jobs, num_workers=num_workers, seconds_per_job=seconds, engine=engine)
    for job, result in ProgressBar(running, "verify", len(jobs), unit="video", disable=not progress):
        found[job] = result
    for job, of_video in zip(jobs, rows.values(), strict=True):
        result = found[job]
        reasons = [result] * len(of_video) if isinstance(result, str) else result.row_errors
        for (split, i), reason in zip(of_video, reasons, strict=True):
            split.reasons[i] = reason
            split.inspected[i] = result if isinstance(result, Inspected) and reason is None else None


def _diagnose(splits: list[InspectedSplit], labels: Sequence[str] | None) -> VerificationReport:
    whole = [(split, i, seen) for split in splits for i, seen in enumerate(split.inspected) if seen is not None]
    by_file: dict[str, list[tuple[InspectedSplit, int]]] = defaultdict(list)
    by_source: dict[str, list[tuple[InspectedSplit, int]]] = defaultdict(list)
    by_group: dict[str, list[tuple[InspectedSplit, int]]] = defaultdict(list)
    for split, i, seen in whole:
        if name := split.records[i].group:
            by_group[name].append((split, i))
        by_file[seen.sha256].append((split, i))
        if clip := parse_clip_name(split.paths[i].stem):
            by_source[clip[0]].append((split, i))
    same_file, leaks, other_labels = [], [], []
    for group in by_file.values():
        paths = list(dict.fromkeys(str(split.paths[i]) for split, i in group))
        if len(paths) > 1:
            same_file.append(paths)
        leaks += _leaks(group, "the same file")
        first_of: dict[tuple[float | None, float | None], tuple[InspectedSplit, int]] = {}
        for split, i in group:
            record = split.records[i]
            first, row = first_of.setdefault((record.start_seconds, record.end_seconds), (split, i))
            if record.label != first.records[row].label:
                pair = (first.paths[row], first.records[row].label, split.paths[i], record.label)
                other_labels.append(tuple(map(str, pair)))
    known = {leak[:4] for leak in leaks}
    for source, group in by_source.items():
        leaks += [leak for leak in _leaks(group, f"both cut from video {source}") if leak[:4] not in known]
    for name, group in by_group.items():  # one line for two splits, however many videos of the group they have
        first_of_split = list({split.name: (split, i) for split, i in reversed(group)}.values())[::-1]
        leaks += [leak for leak in _leaks(first_of_split, f"both of group {name}") if leak[:4] not in known]
    look_alike = []
    for group in _near_duplicates(whole):
        look_alike.append(tuple(str(split.paths[i]) for split, i in group))
        leaks += _leaks(group, "they look alike")
    with_videos = [
        {label for row, seen in zip(split.records, split.inspected, strict=True) if seen for label in row.labels}
        for split in splits
    ]
    rows = [row for split in splits for row in split.records]
    wanted = sorted(set(labels) if labels else {label for row in rows for label in row.labels})
    videos = {split.paths[i].absolute(): seen for split, i, seen in whole}
    durations = np.array([seen.duration_seconds for seen in videos.values()] or [0.0])
    reasons = {
        (path.absolute(), reason): (str(path), reason)
        for split in splits
        for path, reason in zip(split.paths, split.reasons, strict=True)
        if reason is not None
    }
    return VerificationReport(
        videos=len({path.absolute() for split in splits for path in split.paths}),
        undecodable=list(reasons.values()),
        same_file=same_file,
        look_alike=look_alike,  # type: ignore[arg-type]
        leaks=list(dict.fromkeys(leaks)),
        other_labels=other_labels,  # type: ignore[arg-type]
        repeated_rows=[
            (split.name, record.path, count)
            for split in splits
            for record, count in Counter(split.records).items()
            if count > 1
        ],
        classes_without_videos=[
            (split.name, label)
            for split, there in zip(splits, with_videos, strict=True)
            for label in wanted
            if label not in there
        ],
        decord=dict(Counter(seen.decord for seen in videos.values() if seen.decord is not None)),
        decord_differs_on=[str(path) for path, seen in videos.items() if seen.decord == "differs"],
        durations={f"{q}%": round(float(np.percentile(durations, q)), 2) for q in (0, 5, 25, 50, 75, 95, 100)},
        resolutions=dict(Counter(f"{seen.width} x {seen.height}" for seen in videos.values()).most_common()),
        hours=round(float(durations.sum()) / 3600, 3),
        fallbacks=dict(Counter(seen.fallback_reason for seen in videos.values() if seen.fallback_reason is not None)),
        not_compared=dict(
            Counter(seen.not_compared_reason for seen in videos.values() if seen.not_compared_reason is not None)
        ),
    )


def _near_duplicates(
    whole: Sequence[tuple[InspectedSplit, int, Inspected]],
) -> Iterator[list[tuple[InspectedSplit, int]]]:
    """Yield each pair of near-duplicates, as (split, row) of both videos.

    Of several files with the same content, only one is compared with other videos. `_diagnose` finds files with the
    same content by their hashes, and reports them separately.

    Args:
        whole: (split, row, properties of the video) of each row whose video can be decoded and fits the row.
    """
    single = list({seen.sha256: (split, i, seen) for split, i, seen in whole}.values())
    if single:
        thumbnails = np.stack([seen.thumbnails for _, _, seen in single])
        durations = np.array([seen.duration_seconds for _, _, seen in single])
        for pair in find_near_duplicates(thumbnails, durations):
            yield [single[place][:2] for place in pair]


def _leaks(group: Sequence[tuple[InspectedSplit, int]], why: str) -> list[tuple[str, str, str, str, str]]:
    """Return the leaks in a group of related videos, as entries of `VerificationReport.leaks`.

    There is one entry for each video that is not in the same split as the first video of the group.

    Args:
        group: (split, row) of each related video.
        why: how the videos are related.
    """
    first, row = group[0]
    return [
        (str(first.paths[row]), first.name, str(split.paths[i]), split.name, why)
        for split, i in group[1:]
        if split is not first
    ]


def _write(splits: list[InspectedSplit], diagnosis: VerificationReport, folder: Path) -> None:
    content = diagnosis.as_dict()
    (folder / "report.json").write_text(json.dumps(content, indent=2) + "\n")
    markdown = render_verify_report(content, reasons=diagnosis.reasons(), left_out=diagnosis.skipped.summary())
    (folder / "report.md").write_text(markdown, encoding="utf-8", errors="surrogateescape")
    with (folder / "quarantine.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "reason"])
        writer.writerows(diagnosis.undecodable)
    for split in splits:
        kept = []
        for record, seen in zip(split.records, split.inspected, strict=True):
            if seen is not None and (record.label or split.has_labels):
                names = ("num_frames", "fps", "width", "height", "duration_seconds")
                numbers = {name: getattr(seen, name) for name in names}
                kept.append(replace(record, path=path_in_manifest(folder, split.root, record.path), **numbers))
        if kept:
            write_manifest(folder / f"{split.name}.csv", kept)
    with matplotlib.rc_context({"savefig.dpi": 120}):
        plot_collection(splits).savefig(folder / "collection.png")
