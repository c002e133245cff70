"""A collection into a store for training: every video, or annotated segment, transcoded once.

A file of the store is there whole or not at all, so that a run that was killed goes on where it was: what is there is
not made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Self

from tqdm import tqdm

from farfield.data.decode import VIDEO_SUFFIXES, DecodeError
from farfield.data.indexing import READERS, kinetics_annotations, kinetics_clip
from farfield.data.manifest import VideoRecord, read_manifest, write_manifest
from farfield.data.parallel import Engine, for_each
from farfield.data.transcode import Encoding, Transcoded, probe, transcode
from farfield.errors import FarfieldError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

Labels = dict[tuple[str, int], str]
"""Of Kinetics' clips, by YouTube's id and the start in seconds."""


@dataclass(frozen=True)
class Job:
    """One video to be transcoded.

    Attributes:
        name: what it is called in messages.
        target: the file to write.
        label: its class; None where nothing tells.
        source: the file to read, or its content.
        start_seconds: where the segment begins; None for the beginning.
        end_seconds: where it ends; None for the end.
        encoding: how to encode it.
    """

    name: str
    target: Path
    label: str | None
    source: Path | bytes
    start_seconds: float | None
    end_seconds: float | None
    encoding: Encoding


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
    """

    records: list[VideoRecord] = field(default_factory=list)
    already_there: int = 0
    unlabelled: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    source_bytes: int = 0
    bytes: int = 0

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
        progress: show a bar on standard error.

    Raises:
        FarfieldError: for a source that is none, a store of other settings, or a disk that cannot be written.
    """
    source, out = Path(source), Path(out)
    labels = None if annotations is None else dict(kinetics_annotations(Path(annotations)))
    jobs, total = _jobs(source, out, encoding, labels, root)
    _open_store(out, encoding)
    results: dict[Path, tuple[Job, Transcoded]] = {}
    prepared = Prepared()
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
    for target in sorted(results):
        job, made = results[target]
        prepared.seconds += made.duration_seconds
        prepared.source_bytes += made.source_bytes
        prepared.bytes += made.bytes
        if job.label is None:
            prepared.unlabelled += 1
            continue
        numbers = {name: getattr(made, name) for name in ("num_frames", "fps", "width", "height", "duration_seconds")}
        prepared.records.append(VideoRecord(target.relative_to(out).as_posix(), job.label, **numbers))
    prepared.failures.sort()
    if prepared.records:
        write_manifest(out / "manifest.csv", prepared.records)
    (out / "failures.json").write_text(json.dumps(dict(prepared.failures), indent=2) + "\n")
    return prepared


def _work(job: Job) -> tuple[Transcoded, bool]:
    """In a worker: transcodes, unless the file is there already."""
    source = job.source if isinstance(job.source, Path) else io.BytesIO(job.source)
    size = job.source.stat().st_size if isinstance(job.source, Path) and job.source.is_file() else 0
    if isinstance(job.source, bytes):
        size = len(job.source)
    if job.target.is_file():
        return replace(probe(job.target), source_bytes=size), True
    if isinstance(job.source, Path) and not size:
        raise DecodeError(job.name, "the file is empty" if job.source.is_file() else "there is no such file")
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarfieldError(f"{job.target.parent} cannot be made: {error.strerror}.") from error
    segment = {"start_seconds": job.start_seconds, "end_seconds": job.end_seconds}
    return transcode(source, job.target, job.encoding, **segment, name=job.name), False


def _open_store(out: Path, encoding: Encoding) -> None:
    """Makes the folder, or refuses one that holds videos of another encoding."""
    record = out / "store.json"
    settings = asdict(encoding)
    try:
        out.mkdir(parents=True, exist_ok=True)
        known = json.loads(record.read_text()) if record.is_file() else None
        if known is None:
            partial = record.with_name("store.json.partial")
            partial.write_text(json.dumps(settings, indent=2) + "\n")
            partial.replace(record)
    except (OSError, ValueError) as error:
        raise FarfieldError(f"{out} cannot be used as a store: {error}.") from error
    if known is not None and known != settings:
        changed = [
            f"{name} was {known.get(name)}, now {settings[name]}"
            for name in settings
            if known.get(name) != settings[name]
        ]
        raise FarfieldError(f"{out} holds videos of other settings: {'; '.join(changed)}. Use them, or another folder.")


def _jobs(
    source: Path, out: Path, encoding: Encoding, labels: Labels | None, root: str | Path | None
) -> tuple[Iterator[Job], int | None]:
    """The videos to transcode, and how many they are; None where only reading an archive would tell."""
    if source.is_dir():
        archives = [path for path in sorted(source.iterdir()) if path.name.lower().endswith(TAR_SUFFIXES)]
        if archives:
            return _from_archives(archives, out, encoding, labels), None
        records = _records_of_folder(source, labels)
        folder = source
    elif source.name.lower().endswith(TAR_SUFFIXES):
        if not source.is_file():
            raise FarfieldError(f"there is no archive {source}.")
        return _from_archives([source], out, encoding, labels), None
    else:
        manifest = read_manifest(source, root=root)
        records, folder = list(manifest), manifest.root
    return _from_records(records, folder, out, encoding), len(records)


def _records_of_folder(folder: Path, labels: Labels | None) -> list[VideoRecord]:
    if labels is None:
        records = list(READERS["folders"](folder, folder, None))
        hint = "Its subfolders are to be the classes; or give annotations, Kinetics' CSV."
    else:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
        records = [
            VideoRecord(path.relative_to(folder).as_posix(), _label_of(path.stem, labels) or "") for path in files
        ]
        hint = ""
    if not records:
        raise FarfieldError(f"the folder {folder} holds no videos. {hint}".strip())
    return records


def _from_records(records: list[VideoRecord], folder: Path, out: Path, encoding: Encoding) -> Iterator[Job]:
    names = _Names(out)
    for record in records:
        segment = (record.start_seconds, record.end_seconds)
        target = names.target(record.path, segment)
        yield Job(str(folder / record.path), target, record.label or None, folder / record.path, *segment, encoding)


def _from_archives(archives: list[Path], out: Path, encoding: Encoding, labels: Labels | None) -> Iterator[Job]:
    names = _Names(out)
    for archive in archives:
        try:
            # A stream: nothing is unpacked, nothing is sought.
            with tarfile.open(archive, "r|*", tarinfo=_WholeMember) as tar:
                for member in tar:
                    path = PurePosixPath(member.name)
                    if not member.isfile() or path.suffix.lower() not in VIDEO_SUFFIXES or path.name.startswith("."):
                        continue
                    label = path.parent.name or None
                    if labels is not None:
                        label = _label_of(path.stem, labels)
                    content = tar.extractfile(member)
                    assert content is not None
                    target = names.target(member.name, (None, None))
                    yield Job(f"{archive}:{member.name}", target, label, content.read(), None, None, encoding)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise FarfieldError(
                f"{archive} cannot be read to its end: {error}. What was read is in the store; with a whole archive, "
                "the same command goes on."
            ) from error


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


class _Names:
    """Files of the store: named as in the collection, always inside the store's folder, and no two alike."""

    def __init__(self, out: Path) -> None:
        self._out = out / "videos"
        self._taken: set[str] = set()

    def target(self, path: str, segment: tuple[float | None, float | None]) -> Path:
        parts = [part for part in PurePosixPath(path).with_suffix("").parts if part not in ("/", "..", ".")]
        name = "/".join(parts if not path.startswith("/") else parts[-2:])
        if segment != (None, None):
            start, end = (("" if value is None else f"{value:g}") for value in segment)
            name += f"_{start}_{end}"
        if name in self._taken:
            name += "-" + hashlib.sha256(f"{path} {segment}".encode(errors="surrogateescape")).hexdigest()[:8]
        self._taken.add(name)
        return self._out / f"{name}.mp4"


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
    }
