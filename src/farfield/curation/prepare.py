"""Transcode a collection into a store for training: each video, or each annotated segment, becomes one file.

Each file is written atomically. A run that continues an interrupted one does not transcode finished files again.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from farfield.atomic_write import atomic_write
from farfield.curation.encoding import Encoding
from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.formats.kinetics import read_annotations
from farfield.curation.frame_rate_option import check_fps
from farfield.curation.store import check_store_folder, open_store, remove_partial_files
from farfield.curation.transcode import Transcoded, probe, source_size, transcode
from farfield.curation.transcode_jobs import TranscodeJob, list_jobs
from farfield.data.manifest import write_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.parallel import Engine, for_each
from farfield.progress import ProgressBar
from farfield.video.decoders import DecodeError


@dataclass
class Prepared:
    """Result of preparing a collection.

    Attributes:
        out: folder of the store.
        records: rows of the store's manifest.
        already_there: number of the store's videos that an earlier run transcoded.
        unlabelled: number of videos without a known class. Their files are in the store, but not in its manifest.
        failures: (name, reason) of each video that could not be transcoded.
        seconds: total duration of the store's videos.
        source_bytes: total size of the source videos, each counted once, however many of its segments are stored.
        bytes: total size of the store's videos.
        skipped: files that the scan of the folder or archives skipped.
    """

    out: Path
    records: list[VideoRecord] = field(default_factory=list)
    already_there: int = 0
    unlabelled: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    source_bytes: int = 0
    bytes: int = 0
    skipped: SkippedFiles = field(default_factory=SkippedFiles)

    @property
    def failures_file(self) -> Path:
        return self.out / "failures.json"

    def reasons(self) -> dict[str, int]:
        """Count the failures by reason, most frequent first."""
        return dict(Counter(reason for _, reason in self.failures).most_common())

    def as_dict(self) -> dict[str, Any]:
        """Return counts and sizes as plain types, for JSON."""
        return {
            "videos": len(self.records) + self.unlabelled,
            "already_there": self.already_there,
            "without_label": self.unlabelled,
            "hours": round(self.seconds / 3600, 3),
            "bytes_before": self.source_bytes,
            "bytes_after": self.bytes,
            "failed": len(self.failures),
            "failures_by_reason": self.reasons(),
            "left_out": self.skipped.as_dict(),
        }


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    encoding: Encoding = Encoding(),  # noqa: B008  # frozen
    annotations: str | Path | None = None,
    root: str | Path | None = None,
    num_workers: int | None = None,
    seconds_per_video: float = 600,
    engine: Engine = "local",
    list_left_out: bool = False,
    progress: bool = True,
    fps: float | None = None,
) -> Prepared:
    """Transcode a collection to H.264 files from which random clips are read fast.

    Videos become H.264 in MP4 without sound, upright, with a short side of at most 256 pixels (unless `encoding` sets
    another size) and keyframes at a fixed distance. If a manifest gives segments, only these are stored. The output
    folder, called the store, also has a manifest.csv, and a failures.json that lists the videos that could not be
    transcoded, with the reason. Run the same command again to continue a run that was interrupted or killed.

    Args:
        source: manifest; folder of videos (label/.../video); tar archive or folder of archives, which are read without
            unpacking.
        out: folder of the store.
        encoding: settings of the encoder.
        annotations: Kinetics' CSV, which gives the labels of videos named <id>_<start>_<end>.mp4. None for the labels
            of the manifest or of the folders. Not allowed if the source is a manifest.
        root: folder that a manifest's paths are relative to; None for the manifest's folder.
        num_workers: number of processes; None for one per core of this machine, or of the Ray cluster.
        seconds_per_video: time limit for one video. A video that takes longer fails.
        engine: local for processes on this machine; ray for the Ray cluster at RAY_ADDRESS, whose workers must see the
            same files.
        list_left_out: list every file that is skipped in a folder or archive, with the reason.
        progress: show a progress bar on standard error.
        fps: frame rate of folders of numbered pictures. A frame rate in the manifest takes precedence. Folders without
            any frame rate are not read.

    Raises:
        FarfieldError: for an unsupported source, a manifest or folder without videos, an output folder that is a store
            made from a different source or with different settings, or a store that cannot be written.
    """
    check_fps(fps)
    source, out = Path(source), Path(out)
    labels = None if annotations is None else dict(read_annotations(Path(annotations)))
    check_store_folder(source, out)
    prepared = Prepared(out, skipped=SkippedFiles(list_left_out))
    jobs, total = list_jobs(source, out, encoding, labels, root, prepared.skipped, fps=fps)
    lock = open_store(out, encoding, source)
    results: dict[Path, tuple[TranscodeJob, Transcoded]] = {}
    try:
        with ProgressBar(desc="prepare", unit="video", total=total, disable=not progress, smoothing=0.05) as bar:
            running = for_each(
                _transcode_if_missing, jobs, num_workers=num_workers, seconds_per_job=seconds_per_video, engine=engine
            )
            for job, result in running:
                bar.update()
                if isinstance(result, str):
                    prepared.failures.append((job.name, result))
                    bar.set_postfix(failed=len(prepared.failures))
                    continue
                made, was_there = result
                prepared.already_there += was_there
                results[job.target] = replace(job, source=b""), made
        _write_results(results, prepared)
    except OSError as error:
        raise FarfieldError(
            f"{out} cannot be written: {error.strerror or error}. Give another output folder (out)."
        ) from error
    finally:
        remove_partial_files(out)
        lock.release()
    return prepared


def _write_results(results: dict[Path, tuple[TranscodeJob, Transcoded]], prepared: Prepared) -> None:
    """Add the results to `prepared`, and write manifest.csv and failures.json.

    `results` maps the path of each stored file to its job and the properties of the file.
    """
    out = prepared.out
    prepared.source_bytes = sum({job.name: made.source_bytes for job, made in results.values()}.values())
    for target in sorted(results):
        job, made = results[target]
        prepared.seconds += made.duration_seconds
        prepared.bytes += made.bytes
        if job.label is None:
            prepared.unlabelled += 1
            continue
        numbers = {name: getattr(made, name) for name in ("num_frames", "fps", "width", "height", "duration_seconds")}
        path = target.relative_to(out.absolute()).as_posix()
        prepared.records.append(VideoRecord(path, job.label, **numbers, group=job.group))
    prepared.failures.sort()
    if prepared.records:
        write_manifest(out / "manifest.csv", prepared.records)
    failures = json.dumps([{"video": name, "reason": reason} for name, reason in prepared.failures], indent=2)
    with atomic_write(prepared.failures_file) as partial:
        partial.write_text(failures + "\n", errors="backslashreplace")


def _transcode_if_missing(job: TranscodeJob) -> tuple[Transcoded, bool]:
    """Transcode a video, in a worker process, unless the store has it already.

    Returns:
        Properties of the stored video, and whether an earlier run transcoded it.
    """
    if isinstance(job.source, Path):
        if not job.source.exists():
            raise DecodeError(job.name, "there is no such file")
        try:
            size = source_size(job.source)
        except OSError as error:
            raise DecodeError(job.name, error.strerror or str(error)) from error
        except ValueError as error:  # of a folder of pictures
            raise DecodeError(job.name, str(error)) from error
        if not size:
            raise DecodeError(job.name, "the file is empty")
    else:
        size = len(job.source)
    identity = f"farfield {job.identity} {size}"
    if isinstance(job.source, Path) and job.source.is_dir():
        identity += f" {job.fps}"
    if job.target.is_file():
        try:
            made, comment = probe(job.target)
        except DecodeError:  # damaged, for example by a power cut
            comment = ""
        if comment == identity:
            return replace(made, source_bytes=size), True
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarfieldError(f"{job.target.parent} cannot be created: {error.strerror}.") from error
    source = job.source if isinstance(job.source, Path) else io.BytesIO(job.source)
    segment = {"start_seconds": job.start_seconds, "end_seconds": job.end_seconds}
    made = transcode(source, job.target, job.encoding, **segment, fps=job.fps, name=job.name, comment=identity)
    return made, False
