"""List the videos to transcode, from a manifest, a folder or tar archives."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Self

from farfield.curation.encoding import Encoding
from farfield.curation.folder_scan import Reason, SkippedFiles, has_video_suffix, hidden_reason, scan_folder
from farfield.curation.formats.folders import check_class_folders, classes_of_folder, videos_of_folder
from farfield.curation.formats.kinetics import ClipKey, label_of_clip
from farfield.curation.frame_rate_option import fill_fps
from farfield.data.manifest import read_manifest
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.progress import ProgressBar

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

Segment = tuple[float | None, float | None]
"""Start and end in seconds; None for the start or the end of the video."""

Labels = dict[ClipKey, str]
"""Label of each Kinetics clip, by (YouTube id, start in seconds)."""


@dataclass(frozen=True)
class TranscodeJob:
    """A video, or a segment of a video, to transcode.

    Attributes:
        name: name of the video in messages.
        target: file to write.
        label: label of the video, as in a manifest; None if unknown.
        source: video file or folder of numbered pictures, or the content of a video file from an archive.
        start_seconds: start of the segment; None for the start of the video.
        end_seconds: end of the segment; None for the end of the video.
        encoding: settings of the encoder.
        identity: hash of the source's path and segment. An existing target with a different identity is overwritten.
        fps: frame rate of a folder of pictures; ignored for other sources.
        group: group of the video in the manifest; None if it has none.
    """

    name: str
    target: Path
    label: str | None
    source: Path | bytes
    start_seconds: float | None
    end_seconds: float | None
    encoding: Encoding
    identity: str
    fps: float | None = None
    group: str | None = None


def list_jobs(
    source: Path,
    out: Path,
    encoding: Encoding,
    labels: Labels | None,
    root: str | Path | None,
    skipped: SkippedFiles,
    *,
    fps: float | None = None,
) -> tuple[Iterator[TranscodeJob], int | None]:
    """List the videos to transcode.

    Args:
        source: manifest, folder, tar archive or folder of tar archives.
        out: folder of the store.
        encoding: settings of the encoder.
        labels: label of each Kinetics clip. If None, labels come from the manifest; without a manifest, they are the
            names of the class folders in the folder or archive.
        root: folder that a manifest's paths are relative to; None for the manifest's folder.
        skipped: record of skipped files, to which this function adds. Files in archives are added as the jobs are
            consumed.
        fps: frame rate of folders of numbered pictures; None if unknown. A frame rate in the manifest takes precedence.

    Returns:
        The jobs, and their number. For archives the number is None, since archives are read while the jobs are
        consumed.

    Raises:
        FarfieldError: for an unsupported source, a manifest or folder without videos, or `labels` with a manifest.
    """
    if source.is_dir():
        archives = [path for path in sorted(source.iterdir()) if _is_archive(path)]
        if archives:
            for video in scan_folder(source, SkippedFiles(), exclude=out):
                skipped.add(Reason.BESIDE_ARCHIVES, video)
            return _jobs_from_archives(archives, out, encoding, labels, skipped), None
        # The store may lie inside the collection; its videos are not part of it.
        records, folder, is_labelled = _records_of_folder(source, labels, skipped, fps, exclude=out), source, False
    elif not source.is_file():
        raise FarfieldError(f"there is no {source}. Give a manifest, a folder of videos, or a tar archive.")
    elif source.name.lower().endswith(TAR_SUFFIXES):
        return _jobs_from_archives([source], out, encoding, labels, skipped), None
    elif has_video_suffix(source):
        raise FarfieldError(f"{source} is a video. Give a manifest, a tar archive, or the folder of the video.")
    else:
        if labels is not None:
            raise FarfieldError(
                "annotations are given, but the source is a manifest, which has its own labels. Leave annotations out."
            )
        manifest = read_manifest(source, root=root)
        # In a manifest with labels, a row without one shows none of the classes.
        records, folder, is_labelled = list(manifest), manifest.root, bool(manifest.labels)
    return _jobs_from_records(fill_fps(records, fps), folder, out, encoding, is_labelled), len(records)


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(TAR_SUFFIXES) and hidden_reason(path.name) is None


def _records_of_folder(
    folder: Path, labels: Labels | None, skipped: SkippedFiles, fps: float | None, *, exclude: Path
) -> list[VideoRecord]:
    if labels is None:
        records = classes_of_folder(folder, skipped, exclude=exclude, frame_folders=fps is not None)
        hint = "Give a folder whose subfolders are the classes, or give Kinetics' CSV as annotations."
    else:
        found = videos_of_folder(folder, skipped, exclude=exclude, frame_folders=fps is not None)
        records = [replace(each, label=label_of_clip(PurePosixPath(each.path).stem, labels) or "") for each in found]
        hint = ""
    if not records:
        words = ["the folder", f"{folder} holds no videos.", hint, skipped.sentence()]
        raise FarfieldError(" ".join(word for word in words if word))
    return records


def _jobs_from_records(
    records: list[VideoRecord], folder: Path, out: Path, encoding: Encoding, is_labelled: bool
) -> Iterator[TranscodeJob]:
    targets = _TargetPaths(out)
    for record in records:
        segment = (record.start_seconds, record.end_seconds)
        target = targets.choose(record.path, segment)
        path = (folder / record.path).absolute()  # workers of a cluster have other working directories
        identity = _identity(record.path, segment)
        label = record.label if record.label or is_labelled else None
        yield TranscodeJob(
            str(path), target, label, path, *segment, encoding, identity, fps=record.fps, group=record.group
        )


def _jobs_from_archives(
    archives: list[Path], out: Path, encoding: Encoding, labels: Labels | None, skipped: SkippedFiles
) -> Iterator[TranscodeJob]:
    """Yield a job for each video in tar archives, without unpacking to disk.

    Without `labels`, the names in all archives are listed first, to find the class folders.
    """
    targets = _TargetPaths(out)
    level = 0 if labels is not None else _class_level(archives)
    for archive in archives:
        try:
            with tarfile.open(archive, "r|*", tarinfo=_CheckedMember) as tar:
                for member in tar:
                    path = PurePosixPath(member.name)
                    if reason := _reason_to_skip(member, path):
                        skipped.add(reason, f"{archive}:{member.name}")
                    if reason or member.isdir():
                        continue
                    folders = _folders(path)
                    label = folders[level] if len(folders) > level else None
                    if labels is not None:
                        label = label_of_clip(path.stem, labels) or None
                    content = tar.extractfile(member)
                    assert content is not None
                    target = targets.choose(member.name, (None, None))
                    name, identity = f"{archive}:{member.name}", _identity(member.name, (None, None))
                    yield TranscodeJob(name, target, label, content.read(), None, None, encoding, identity)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise FarfieldError(
                f"{archive} cannot be read to its end: {error}. The videos before the damage are in the store; run the "
                "same command with a complete archive to add the rest."
            ) from error


def _class_level(archives: list[Path]) -> int:
    """Return the level of the class folders in archives: the number of folders that hold all videos.

    Videos outside of the class folders are ignored. If all videos are in one folder, this folder is the class.

    Raises:
        FarfieldError: for names of class folders that `check_class_folders` refuses.
    """
    found: set[tuple[str, ...]] = set()
    for archive in archives:
        with suppress(tarfile.TarError, EOFError, OSError), tarfile.open(archive) as tar:  # reported by the caller
            for member in ProgressBar(tar, desc=f"files in {archive.name}", unit="file", leave=False, delay=2):
                path = PurePosixPath(member.name)
                if not member.isdir() and _reason_to_skip(member, path) is None and (folders := _folders(path)):
                    found.add(folders)
    # In this order, the folders inside a folder follow it: one that holds others is not the innermost.
    ordered = sorted(found)
    inner = [each for each, after in pairwise([*ordered, ()]) if after[: len(each)] != each]
    level = 0
    while inner and all(len(each) > level + 1 for each in inner) and len({each[level] for each in inner}) == 1:
        level += 1
    check_class_folders({each[level] for each in inner}, archives[0] if len(archives) == 1 else archives[0].parent)
    return level


def _folders(path: PurePosixPath) -> tuple[str, ...]:
    """Return the folders of a member of an archive, without ".", ".." and "/"."""
    return tuple(part for part in path.parent.parts if part not in (".", "..", "/"))


def _reason_to_skip(member: tarfile.TarInfo, path: PurePosixPath) -> Reason | None:
    """Return why a member of an archive is skipped, by the rules of `scan_folder`; None if it is not skipped.

    Each file in a hidden folder or system folder is skipped, for the reason of the folder. `scan_folder` reports only
    the folder, but an archive need not list its folders.
    """
    if member.isdir():
        return None
    hidden = [reason for part in path.parts if part not in (".", "..") and (reason := hidden_reason(part))]
    if hidden:
        return hidden[0]
    if not member.isfile():
        return Reason.NO_REGULAR_FILE
    return None if has_video_suffix(path) else Reason.OTHER_ENDING


class _CheckedMember(tarfile.TarInfo):
    """Archive member that raises an error if its header is cut off.

    tarfile itself would treat a cut-off header as the end of the archive.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if str(error) in ("end of file header", "empty header"):
                raise  # the regular end of an archive
            raise tarfile.ReadError(f"the archive is cut off or damaged: {error}") from error


def _identity(path: str, segment: Segment) -> str:
    """Return a hash of a video's path and segment, in ASCII for the metadata of the transcoded file."""
    return hashlib.sha256(f"{path} {segment}".encode(errors="surrogateescape")).hexdigest()[:16]


class _TargetPaths:
    """Unique paths for videos in the store, similar to their paths in the collection."""

    def __init__(self, out: Path) -> None:
        self._videos = out.absolute() / "videos"
        self._taken: set[str] = set()

    def choose(self, path: str, segment: Segment) -> Path:
        """Choose an unused path in the store for one video or segment.

        The file name is built from the video's path in the collection and from the segment's start and end.
        """
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")]
        name = "/".join(parts[-2:] if path.startswith("/") else parts).removesuffix(".mp4") or "video"
        if segment != (None, None):
            start, end = (("" if value is None else f"{value:g}") for value in segment)
            name += f"_{start}_{end}"
        is_plain = len(parts) == len(PurePosixPath(path).parts) and name.isprintable() and len(parts[-1]) < 200
        if not is_plain:  # outside the collection, or not a valid name on other systems
            name = name.encode("ascii", "replace").decode().replace("?", "_")[-100:] + "-" + _identity(path, segment)
        unique, copies = name, 1
        while unique in self._taken:
            copies += 1
            unique = f"{name}-{copies}"
        self._taken.add(unique)
        return self._videos / f"{unique}.mp4"
