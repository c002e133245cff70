"""Build a manifest from a collection of videos in one of several annotation formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from farfield.curation.class_names import read_class_names
from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.folders import read_folders
from farfield.curation.formats.kinetics import read_kinetics
from farfield.curation.formats.mmaction2 import read_mmaction2
from farfield.curation.formats.pyslowfast import read_pyslowfast
from farfield.curation.manifest_output import make_parent_folder, path_in_manifest, refuse_to_replace_other_files
from farfield.data.manifest import VideoRecord, write_manifest
from farfield.errors import FarfieldError
from farfield.parallel import for_each
from farfield.progress import ProgressBar
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import open_video

Format = Literal["folders", "kinetics", "pyslowfast", "mmaction2"]

FORMATS: dict[str, Callable[[Path, Path, list[str] | None, SkippedFiles], Iterator[VideoRecord]]] = {
    "folders": read_folders,
    "kinetics": read_kinetics,
    "pyslowfast": read_pyslowfast,
    "mmaction2": read_mmaction2,
}
"""Reader of each format. A reader takes the root, the annotations, the class names and the record of skipped files."""

_WITH_ANNOTATIONS = ("kinetics", "pyslowfast", "mmaction2")
_WITH_NUMBERS = ("pyslowfast", "mmaction2")


@dataclass(frozen=True)
class Index:
    """Result of indexing.

    Attributes:
        records: manifest rows of the readable videos.
        failures: (path, reason) of missing and unreadable videos.
        skipped: files that the scan of the folder skipped; empty for pyslowfast and mmaction2, which scan no folder.
    """

    records: list[VideoRecord]
    failures: list[tuple[str, str]]
    skipped: SkippedFiles

    @property
    def num_classes(self) -> int:
        return len({record.label for record in self.records})


def index_videos(
    root: str | Path,
    out: str | Path,
    *,
    format: Format = "folders",
    annotations: str | Path | None = None,
    labels: str | Path | None = None,
    num_workers: int | None = None,
    list_left_out: bool = False,
    decoder: Decoder = "pyav",
    progress: bool = True,
) -> Index:
    """Index a collection: write a manifest that lists the length, frame rate and size of each video.

    Each video is opened once. Unreadable videos are reported and left out of the manifest. Links to files and folders
    are followed. Skipped files and folders, such as hidden ones and files without a video suffix, are counted by
    reason.

    Args:
        root: folder of the videos.
        out: manifest to write (CSV). Video paths in it are relative to the manifest's folder; paths of videos outside
            this folder are absolute.
        format: folders (root/label/.../video); kinetics (videos named <id>_<start>_<end> anywhere under root, labelled
            by Kinetics' CSV); pyslowfast or mmaction2 (lines `path label` with a number as label, paths under root).
        annotations: Kinetics' CSV for kinetics, list file for pyslowfast and mmaction2; None for folders.
        labels: for pyslowfast and mmaction2, file with the names of classes 0, 1, 2, ..., one per line; None keeps the
            numbers as labels.
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
    _check(root, format, annotations, labels)
    make_parent_folder(target)
    class_names = None if labels is None else read_class_names(labels)
    skipped = SkippedFiles(list_left_out)
    listed = list(FORMATS[format](folder, Path(annotations or root), class_names, skipped))
    if not listed:
        raise FarfieldError(f"no videos found under {root} in the format {format!r}. {skipped.sentence()}".strip())
    exists = [(folder / record.path).is_file() for record in listed]
    missing = [
        (str(folder / record.path), "there is no such file")
        for record, is_there in zip(listed, exists, strict=True)
        if not is_there
    ]
    present = [record for record, is_there in zip(listed, exists, strict=True) if is_there]
    probed = _probe_all(folder, present, num_workers, decoder, progress)
    records = [record for record in probed if isinstance(record, VideoRecord)]
    failures = missing + [failure for failure in probed if not isinstance(failure, VideoRecord)]
    if not records:
        raise FarfieldError(
            f"none of the {len(listed)} videos can be read. The first failure is {failures[0][0]}: {failures[0][1]}."
        )
    write_manifest(target, [replace(r, path=path_in_manifest(target.parent, folder, r.path)) for r in records])
    return Index(records, failures, skipped)


def _check(root: str | Path, format: str, annotations: object, labels: object) -> None:
    if not Path(root).is_dir():
        raise FarfieldError(f"root is {root}, which is not a folder. Give the folder of the videos.")
    if format not in FORMATS:
        raise FarfieldError(f"format is {format!r}. Known formats: {', '.join(FORMATS)}.")
    if format in _WITH_ANNOTATIONS and annotations is None:
        raise FarfieldError(f"format={format!r} needs annotations. Give the file that lists the videos.")
    for name, value, formats in (("annotations", annotations, _WITH_ANNOTATIONS), ("labels", labels, _WITH_NUMBERS)):
        if value is not None and format not in formats:
            raise FarfieldError(
                f"format={format!r} takes no {name}. Leave {name} out, or give one of these formats: "
                f"{', '.join(formats)}."
            )


def _probe_all(
    root: Path, records: list[VideoRecord], num_workers: int | None, decoder: Decoder, progress: bool
) -> list[VideoRecord | tuple[str, str]]:
    """Probe all videos in parallel; return, in order, each completed record, or (path, reason) if unreadable."""
    jobs = [(root, record, decoder) for record in records]
    probed: dict[VideoRecord, VideoRecord | tuple[str, str]] = {}
    running = for_each(_probe, jobs, num_workers=num_workers)
    for (_, record, _), result in ProgressBar(running, "index", len(jobs), unit="video", disable=not progress):
        probed[record] = (str(root / record.path), result) if isinstance(result, str) else result
    return [probed[record] for record in records]


def _probe(job: tuple[Path, VideoRecord, Decoder]) -> VideoRecord:
    """Open a video, in a worker process; return its record with number of frames, frame rate, size and duration."""
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
