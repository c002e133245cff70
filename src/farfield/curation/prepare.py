"""A collection into a store for training: every video, or annotated segment, transcoded once.

A file of the store is there whole or not at all, so that a run that was killed goes on where it was: what is there is
not made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Self

from filelock import FileLock, Timeout
from tqdm import tqdm

from farfield.atomic_write import atomic_write
from farfield.curation.folder_scan import LeftOut, Reason, has_video_suffix, hidden_reason, scan_folder
from farfield.curation.index import classes_of_folder, kinetics_annotations, kinetics_clip, videos_of_folder
from farfield.curation.transcode import Encoding, Transcoded, probe, transcode
from farfield.data.manifest import VideoRecord, read_manifest, write_manifest
from farfield.errors import FarfieldError
from farfield.parallel import Engine, for_each
from farfield.video.decoders import DecodeError

log = logging.getLogger("farfield")

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

Segment = tuple[float | None, float | None]

Labels = dict[tuple[str, int], str]
"""Of Kinetics' clips, by YouTube's id and the start in seconds."""


@dataclass(frozen=True)
class TranscodeJob:
    """One video to be transcoded.

    Attributes:
        name: what it is called in messages.
        target: the file to write.
        label: its class; None where nothing tells.
        source: the file to read, or its content.
        start_seconds: where the segment begins; None for the beginning.
        end_seconds: where it ends; None for the end.
        encoding: how to encode it.
        identity: what the file is made from; one that was made from something else is made anew.
    """

    name: str
    target: Path
    label: str | None
    source: Path | bytes
    start_seconds: float | None
    end_seconds: float | None
    encoding: Encoding
    identity: str


@dataclass
class Prepared:
    """What came of a collection.

    Attributes:
        records: rows of the store's manifest.
        already_there: so many of them were there before.
        unlabelled: videos in the store that no class is known of; the manifest leaves them out.
        failures: (name, reason) of each video that could not be transcoded.
        seconds: how long the videos of the store are.
        source_bytes: what they took before.
        bytes: what they take now.
        left_out: account of what the scan of a folder or of archives passed over.
    """

    records: list[VideoRecord] = field(default_factory=list)
    already_there: int = 0
    unlabelled: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    source_bytes: int = 0
    bytes: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)

    def reasons(self) -> dict[str, int]:
        """How often videos failed for each reason, the most frequent first."""
        return dict(Counter(reason for _, reason in self.failures).most_common())


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
) -> Prepared:
    """Transcodes a collection into the folder `out`, with a manifest.csv of what is there.

    Args:
        source: a manifest, whose segments are cut out; a folder of videos, labelled by the folders in it; a tar
            archive, or a folder of them, read without unpacking.
        out: folder of the store.
        encoding: how videos are stored.
        annotations: Kinetics' CSV, for the labels of `<id>_<start>_<end>.mp4`.
        root: folder that a manifest's paths are relative to; None for its own.
        num_workers: processes; None for the number of cores.
        seconds_per_video: a video that takes longer is given up.
        engine: "local" or "ray".
        list_left_out: keep the names of what is passed over, not only the counts.
        progress: show a bar on standard error.

    Raises:
        FarfieldError: for a source that is none, a store of other settings, or a disk that cannot be written.
    """
    source, out = Path(source), Path(out)
    labels = None if annotations is None else dict(kinetics_annotations(Path(annotations)))
    _refuse_to_overwrite(source, out)
    prepared = Prepared(left_out=LeftOut(list_left_out))
    jobs, total = _jobs(source, out, encoding, labels, root, prepared.left_out)
    lock = _open_store(out, encoding, source)
    results: dict[Path, tuple[TranscodeJob, Transcoded]] = {}
    try:
        with tqdm(desc="prepare", unit="video", total=total, disable=not progress, smoothing=0.05) as bar:
            running = for_each(_work, jobs, num_workers=num_workers, seconds_per_job=seconds_per_video, engine=engine)
            for job, result in running:
                bar.update()
                if isinstance(result, str):
                    prepared.failures.append((job.name, result))
                    bar.set_postfix(failed=len(prepared.failures))
                    continue
                made, was_there = result
                prepared.already_there += was_there
                results[job.target] = replace(job, source=b""), made
        _note_results(out, results, prepared)
    except OSError as error:
        raise FarfieldError(f"{out} cannot be written: {error.strerror or error}.") from error
    finally:
        _sweep(out)
        lock.release()
    return prepared


def _note_results(out: Path, results: dict[Path, tuple[TranscodeJob, Transcoded]], prepared: Prepared) -> None:
    for target in sorted(results):
        job, made = results[target]
        prepared.seconds += made.duration_seconds
        prepared.source_bytes += made.source_bytes
        prepared.bytes += made.bytes
        if job.label is None:
            prepared.unlabelled += 1
            continue
        numbers = {name: getattr(made, name) for name in ("num_frames", "fps", "width", "height", "duration_seconds")}
        prepared.records.append(VideoRecord(target.relative_to(out.absolute()).as_posix(), job.label, **numbers))
    prepared.failures.sort()
    if prepared.records:
        write_manifest(out / "manifest.csv", prepared.records)
    failures = json.dumps([{"video": name, "reason": reason} for name, reason in prepared.failures], indent=2)
    with atomic_write(out / "failures.json") as partial:
        partial.write_text(failures + "\n", errors="backslashreplace")


def _work(job: TranscodeJob) -> tuple[Transcoded, bool]:
    """In a worker: transcodes, unless the file is there already; returns whether it was."""
    if isinstance(job.source, Path):
        try:
            if not job.source.is_file():
                raise DecodeError(job.name, "there is no such file")
            size = job.source.stat().st_size
        except OSError as error:
            raise DecodeError(job.name, error.strerror or str(error)) from error
        if not size:
            raise DecodeError(job.name, "the file is empty")
    else:
        size = len(job.source)
    identity = f"farfield {job.identity} {size}"
    if job.target.is_file():
        try:
            made, comment = probe(job.target)
        except DecodeError:  # as after a power cut
            comment = ""
        if comment == identity:
            return replace(made, source_bytes=size), True
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarfieldError(f"{job.target.parent} cannot be made: {error.strerror}.") from error
    source = job.source if isinstance(job.source, Path) else io.BytesIO(job.source)
    segment = {"start_seconds": job.start_seconds, "end_seconds": job.end_seconds}
    return transcode(source, job.target, job.encoding, **segment, name=job.name, comment=identity), False


def _refuse_to_overwrite(source: Path, out: Path) -> None:
    """Where what is written would be what is read."""
    given = source.resolve()
    if given == (out / "manifest.csv").resolve():
        raise FarfieldError(f"{source} would be overwritten by the store's manifest. Give another folder than {out}.")
    if given.is_dir() and given.is_relative_to(out.resolve()):
        raise FarfieldError(f"{source} lies in {out}, where the store's videos go. Give another folder than {out}.")


def _open_store(out: Path, encoding: Encoding, source: Path) -> FileLock:
    """Makes the folder, and returns its lock; refuses one that holds other videos, or that another run works in."""
    record = out / "store.json"
    settings = asdict(encoding) | {"source": str(source.resolve())}
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        known = json.loads(record.read_text()) if record.is_file() and (out / "videos").is_dir() else None
    except Timeout as error:
        raise FarfieldError(f"another run is preparing {out}. Wait for it, or give another folder.") from error
    except (OSError, ValueError) as error:
        raise FarfieldError(f"{out} cannot be used as a store: {error}.") from error
    is_earlier = False
    if isinstance(known, dict) and not settings.keys() <= known.keys():
        is_earlier = True
        log.warning(
            "%s was begun by an earlier version. Its videos stay as they were stored: interlaced, HDR and mirrored "
            "ones, and H.264 in AVI or ASF, differ from those that are added now. Remove the store to make it anew.",
            out,
        )
        known = {name: value for name, value in settings.items() if name not in known} | known
    if isinstance(known, dict) and known != settings:
        lock.release()
        other = [name for name in settings if known.get(name) != settings[name]]
        changed = [f"{name} was {known.get(name)}, now {settings[name]}" for name in other]
        raise FarfieldError(f"{out} holds other videos: {'; '.join(changed)}. Give the same, or another folder.")
    if not is_earlier:
        with atomic_write(record) as partial:
            partial.write_text(json.dumps(settings, indent=2) + "\n")
    _sweep(out)
    return lock


def _sweep(out: Path) -> None:
    """Removes what workers that were killed left half-written."""
    for partial in (out / "videos").rglob("*.partial"):
        partial.unlink(missing_ok=True)


def _jobs(
    source: Path, out: Path, encoding: Encoding, labels: Labels | None, root: str | Path | None, left_out: LeftOut
) -> tuple[Iterator[TranscodeJob], int | None]:
    """The videos to transcode, and how many they are; None where only reading an archive would tell."""
    if source.is_dir():
        archives = [path for path in sorted(source.iterdir()) if _is_archive(path)]
        if archives:
            for video in scan_folder(source, LeftOut(), exclude=out):
                left_out.add(Reason.BESIDE_ARCHIVES, video)
            return _from_archives(archives, out, encoding, labels, left_out), None
        # The store's own videos are no part of the collection.
        records, folder = _records_of_folder(source, labels, left_out, exclude=out), source
    elif not source.is_file():
        raise FarfieldError(f"there is no {source}. Give a manifest, a folder of videos, or a tar archive.")
    elif source.name.lower().endswith(TAR_SUFFIXES):
        return _from_archives([source], out, encoding, labels, left_out), None
    elif has_video_suffix(source):
        raise FarfieldError(f"{source} is a video. Give the folder that holds it, a manifest, or a tar archive.")
    else:
        if labels is not None:
            raise FarfieldError("annotations go with a folder or archives; a manifest has its labels already.")
        manifest = read_manifest(source, root=root)
        records, folder = list(manifest), manifest.root
    return _from_records(records, folder, out, encoding), len(records)


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(TAR_SUFFIXES) and hidden_reason(path.name) is None


def _records_of_folder(folder: Path, labels: Labels | None, left_out: LeftOut, *, exclude: Path) -> list[VideoRecord]:
    if labels is None:
        records = classes_of_folder(folder, left_out, exclude=exclude)
        hint = "Its subfolders are to be the classes; or give annotations, Kinetics' CSV."
    else:
        found = videos_of_folder(folder, left_out, exclude=exclude)
        records = [replace(each, label=_label_of(PurePosixPath(each.path).stem, labels) or "") for each in found]
        hint = ""
    if not records:
        words = ["the folder", f"{folder} holds no videos.", hint, left_out.sentence()]
        raise FarfieldError(" ".join(word for word in words if word))
    return records


def _from_records(records: list[VideoRecord], folder: Path, out: Path, encoding: Encoding) -> Iterator[TranscodeJob]:
    names = _Names(out)
    for record in records:
        segment = (record.start_seconds, record.end_seconds)
        target = names.target(record.path, segment)
        path = (folder / record.path).absolute()  # workers of a cluster are elsewhere
        identity = _identity(record.path, segment)
        yield TranscodeJob(str(path), target, record.label or None, path, *segment, encoding, identity)


def _from_archives(
    archives: list[Path], out: Path, encoding: Encoding, labels: Labels | None, left_out: LeftOut
) -> Iterator[TranscodeJob]:
    names = _Names(out)
    for archive in archives:
        try:
            # A stream: nothing is unpacked, nothing is sought.
            with tarfile.open(archive, "r|*", tarinfo=_WholeMember) as tar:
                for member in tar:
                    path = PurePosixPath(member.name)
                    if reason := _reason_to_skip(member, path):
                        left_out.add(reason, f"{archive}:{member.name}")
                    if reason or member.isdir():
                        continue
                    label = path.parent.name or None
                    if labels is not None:
                        label = _label_of(path.stem, labels)
                    content = tar.extractfile(member)
                    assert content is not None
                    target = names.target(member.name, (None, None))
                    name, identity = f"{archive}:{member.name}", _identity(member.name, (None, None))
                    yield TranscodeJob(name, target, label, content.read(), None, None, encoding, identity)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise FarfieldError(
                f"{archive} cannot be read to its end: {error}. What was read is in the store; with a whole archive, "
                "the same command goes on."
            ) from error


def _reason_to_skip(member: tarfile.TarInfo, path: PurePosixPath) -> Reason | None:
    """As a scan of the unpacked archive would; a hidden folder's files count each, as an archive need not list it."""
    if member.isdir():
        return None
    hidden = [reason for part in path.parts if part not in (".", "..") and (reason := hidden_reason(part))]
    if hidden:
        return hidden[0]
    if not member.isfile():
        return Reason.NO_REGULAR_FILE
    return None if has_video_suffix(path) else Reason.OTHER_ENDING


class _WholeMember(tarfile.TarInfo):
    """Says so where an archive ends inside a member's head, which tarfile takes for its end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if str(error) in ("end of file header", "empty header"):
                raise  # where it should end
            raise tarfile.ReadError(f"it is cut off or damaged: {error}") from error


def _label_of(stem: str, labels: Labels) -> str | None:
    clip = kinetics_clip(stem)
    return labels.get(clip) if clip else None


def _identity(path: str, segment: Segment) -> str:
    """What tells a video of a collection from all others, whatever its size; plain letters, for metadata."""
    return hashlib.sha256(f"{path} {segment}".encode(errors="surrogateescape")).hexdigest()[:16]


class _Names:
    """Files of the store: named as in the collection, always inside the store's folder, and no two alike."""

    def __init__(self, out: Path) -> None:
        self._videos = out.absolute() / "videos"
        self._taken: set[str] = set()

    def target(self, path: str, segment: Segment) -> Path:
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")]
        name = "/".join(parts[-2:] if path.startswith("/") else parts).removesuffix(".mp4") or "video"
        if segment != (None, None):
            start, end = (("" if value is None else f"{value:g}") for value in segment)
            name += f"_{start}_{end}"
        is_plain = len(parts) == len(PurePosixPath(path).parts) and name.isprintable() and len(parts[-1]) < 200
        if not is_plain:  # from elsewhere, or a name that other systems could not take
            name = name.encode("ascii", "replace").decode().replace("?", "_")[-100:] + "-" + _identity(path, segment)
        unique, copies = name, 1
        while unique in self._taken:
            copies += 1
            unique = f"{name}-{copies}"
        self._taken.add(unique)
        return self._videos / f"{unique}.mp4"


def summarise(prepared: Prepared) -> dict[str, Any]:
    """Counts and sizes, for people and programs."""
    return {
        "videos": len(prepared.records) + prepared.unlabelled,
        "already_there": prepared.already_there,
        "without_label": prepared.unlabelled,
        "hours": round(prepared.seconds / 3600, 3),
        "bytes_before": prepared.source_bytes,
        "bytes_after": prepared.bytes,
        "failed": len(prepared.failures),
        "failures_by_reason": prepared.reasons(),
        "left_out": prepared.left_out.as_dict(),
    }
