"""`farfield data ...`: manifests and generated data sets."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Literal

from farfield.commands.console import quiet_libraries, say_left_out
from farfield.curation.download import YOUTUBE
from farfield.curation.download import download as fetch_clips
from farfield.curation.index import Format, class_names, index_videos
from farfield.curation.javascript_runtime import DEFAULT
from farfield.curation.prepare import prepare as prepare_store
from farfield.curation.prepare import summarise
from farfield.curation.subset import Selection, write_subset
from farfield.curation.transcode import Encoding
from farfield.curation.verify import verify as verify_collection
from farfield.errors import FarfieldError
from farfield.kinetics import kinetics400_labels
from farfield.parallel import Engine
from farfield.synthetic.synthesize import synthesize as write_task
from farfield.video.decoders import Decoder


def index(
    root: str,
    out: str,
    *,
    format: Format = "folders",
    annotations: str | None = None,
    labels: str | None = None,
    num_workers: int | None = None,
    list_left_out: bool = False,
    decoder: Decoder = "pyav",
) -> int:
    """Makes a manifest of a collection of videos, opening each once to note its length, rate and size.

    Videos that cannot be read are named and left out. Links are followed, to files and folders; hidden files and
    folders, files with other endings and whatever else is passed over are counted by reason.

    Args:
        root: folder of the videos.
        out: manifest to write (CSV).
        format: folders (root/label/video), kinetics (its CSV, videos named <id>_<start>_<end>), pyslowfast, mmaction2.
        annotations: Kinetics' CSV, or the list file of the other formats; none for folders.
        labels: for lists, a file with one class name a line, in the order of the numbers; null keeps the numbers.
        num_workers: processes; null for the number of cores.
        list_left_out: name all that is passed over in the folder, with the reason.
        decoder: pyav, or decord for the files of which it returns the requested frames; PyAV reads the others.
    """
    _refuse_to_replace(Path(out))
    made = index_videos(
        root,
        out,
        format=format,
        annotations=annotations,
        labels=labels,
        num_workers=num_workers,
        list_left_out=list_left_out,
        decoder=decoder,
    )
    classes = len({record.label for record in made.records})
    print(f"{out}: {len(made.records)} videos of {classes} classes")
    say_left_out(made.left_out)
    for path, reason in made.failures:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    if made.failures:
        print(f"videos left out: {len(made.failures)}", file=sys.stderr)
    return 1 if made.failures else 0


def _refuse_to_replace(out: Path) -> None:
    """A manifest may be made anew, and nothing else is written over: Kinetics' own CSV perhaps, of the same name."""
    if not out.is_file() or not out.stat().st_size:
        return
    with out.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    if not header.startswith("path,label"):
        raise FarfieldError(f"{out} is there already, and is no manifest: its first line is {header.strip()[:80]!r}.")


def subset(
    source: str,
    out: str,
    *,
    classes: list[str] | None = None,
    class_file: str | None = None,
    pattern: str | None = None,
    num_classes: int | None = None,
    videos_per_class: int | None = None,
    seed: int = 0,
    root: str | None = None,
    json: bool = False,
) -> int:
    """Chooses some classes, and some videos of each, from a manifest or from Kinetics' CSV.

    The choice is by a hash of the seed and the names: asking for one class more, or for half of the videos, leaves the
    others as they were. Videos that are chosen and not there are left out, counted and named.

    Args:
        source: a manifest, or Kinetics' CSV.
        out: the manifest to write; how it was chosen is kept beside it. From Kinetics' CSV without root: a CSV of
            the same columns, which says what to download.
        classes: class names, as ["archery", "bowling"].
        class_file: a file with one class name a line, or kinetics400 for the classes of Kinetics-400.
        pattern: a shell pattern for class names, as "*swimming*".
        num_classes: so many of the classes that are left.
        videos_per_class: so many of each class.
        seed: another one chooses others.
        root: folder of the videos; null for the manifest's own.
        json: print JSON.
    """
    if classes is not None and class_file is not None:
        raise FarfieldError("classes and class_file are both given. Leave one out.")
    if class_file == "kinetics400":
        names: list[str] | None = kinetics400_labels()
    else:
        names = class_names(Path(class_file)) if class_file is not None else classes
    wanted = Selection(None if names is None else tuple(names), pattern, num_classes, videos_per_class, seed)
    made = write_subset(source, out, wanted, root=root)
    say_left_out(made.left_out, can_list=False)
    if json:
        about = {"out": str(made.path), "videos": made.videos, "classes": made.labels, "hash": made.hash}
        print(json_format.dumps(about | {"missing": made.missing}, indent=2))
        return 0
    tail = "" if made.hash is None else f", hash {made.hash}"
    print(f"{made.path}: {made.videos} videos of {len(made.labels)} classes{tail}")
    for path in made.missing[:10]:
        print(f"missing: {path}", file=sys.stderr)
    if made.missing:
        print(f"{len(made.missing)} chosen videos are missing.", file=sys.stderr)
    return 0


def download(
    annotations: str,
    out: str,
    *,
    clip_seconds: float = 10,
    encoding: Encoding = Encoding(),  # noqa: B008  # frozen
    num_workers: int = 2,
    bytes_per_second: int | None = None,
    pause_seconds: float = 1.0,
    retry: bool = False,
    seconds_per_video: float = 600,
    url: str = YOUTUBE,
    js_runtime: str = DEFAULT,
    json: bool = False,
) -> int:
    """Fetches the clips of Kinetics' CSV with yt-dlp, as out/label/<id>_<start>_<end>.mp4.

    Clips are stored as `data prepare` stores them. The same command goes on where it was interrupted; failures.csv
    names what could not be fetched and why, and what is gone for good is not asked for again.

    Args:
        annotations: Kinetics' CSV, as train.csv; `data subset` makes shorter ones.
        out: folder of the clips.
        clip_seconds: length of a clip from its start.
        encoding: how clips are stored.
        num_workers: videos at once.
        bytes_per_second: of each; null for no limit.
        pause_seconds: between two requests of a worker.
        retry: ask again for what earlier calls found gone.
        seconds_per_video: a video that takes longer is given up, until the next call.
        url: where a video is; {id} stands for its name.
        js_runtime: what runs YouTube's scripts: deno, which the extra brings; or node (22 or newer), bun, quickjs; or
            name:path.
        json: print JSON.
    """
    quiet_libraries()
    made = fetch_clips(
        annotations,
        out,
        clip_seconds=clip_seconds,
        encoding=encoding,
        num_workers=num_workers,
        bytes_per_second=bytes_per_second,
        pause_seconds=pause_seconds,
        retry=retry,
        seconds_per_video=seconds_per_video,
        url=url,
        js_runtime=js_runtime,
    )
    for text, count in made.warnings.most_common():
        print(f"warned: {count} x {text}", file=sys.stderr)
    if json:
        about = {"fetched": made.fetched, "already_there": made.already_there, "failed": len(made.failures)}
        print(json_format.dumps(about | {"failures_by_reason": made.reasons(), "warnings": made.warnings}, indent=2))
    else:
        print(f"{out}: {made.fetched} clips fetched, {made.already_there} there already, {len(made.failures)} failed")
        if made.known_to_be_gone:
            print(f"{made.known_to_be_gone} were not asked for again; --retry does.", file=sys.stderr)
        for reason, count in made.reasons().items():
            print(f"failed: {count} x {reason}", file=sys.stderr)
    return 1 if made.failures else 0


def prepare(
    source: str,
    out: str,
    *,
    encoding: Encoding = Encoding(),  # noqa: B008  # frozen
    annotations: str | None = None,
    root: str | None = None,
    num_workers: int | None = None,
    seconds_per_video: float = 600,
    engine: Engine = "local",
    list_left_out: bool = False,
    json: bool = False,
) -> int:
    """Transcodes a collection into a store that random clips are read from several times faster.

    Videos become H.264 in MP4 without sound, upright, with a short side of at most 256 pixels and keyframes at a fixed
    distance; segments of a manifest are cut out. The store has a manifest.csv, and failures.json names what could not
    be transcoded and why. The same command goes on where a run was interrupted, also by kill -9.

    Args:
        source: a manifest; a folder of videos (label/.../video); a tar archive or a folder of them, which are not
            unpacked.
        out: folder of the store.
        encoding: how videos are stored.
        annotations: Kinetics' CSV, for the labels of <id>_<start>_<end>.mp4.
        root: folder that a manifest's paths are relative to; null for its own.
        num_workers: processes; null for the number of cores, or of the Ray cluster's.
        seconds_per_video: a video that takes longer is given up.
        engine: local, or ray: the workers of the cluster that RAY_ADDRESS names, which must see the same files.
        list_left_out: name all that is passed over in folders and archives, with the reason.
        json: print JSON.
    """
    made = prepare_store(
        source,
        out,
        encoding=encoding,
        annotations=annotations,
        root=root,
        num_workers=num_workers,
        seconds_per_video=seconds_per_video,
        engine=engine,
        list_left_out=list_left_out,
    )
    say_left_out(made.left_out)
    about = summarise(made)
    if json:
        print(json_format.dumps({"out": out} | about, indent=2))
    else:
        before, after = about["bytes_before"] / 1e6, about["bytes_after"] / 1e6
        print(
            f"{out}: {about['videos']} videos, {about['hours']:.2f} hours, {before:.1f} MB before, {after:.1f} MB now"
        )
        if made.already_there:
            print(f"{made.already_there} were there already.")
        if made.unlabelled:
            hint = "give annotations, or videos in folders named for their classes"
            print(f"{made.unlabelled} have no known class and are not in manifest.csv: {hint}.", file=sys.stderr)
        for reason, count in made.reasons().items():
            print(f"failed: {count} x {reason}", file=sys.stderr)
        if made.failures:
            print(f"{Path(out) / 'failures.json'} names them.", file=sys.stderr)
    return 1 if made.failures else 0


def verify(
    sources: list[str],
    *,
    out: str = "verify",
    root: str | None = None,
    class_file: str | None = None,
    num_workers: int | None = None,
    seconds_per_video: float = 120,
    sample: int = 50,
    engine: Engine = "local",
    list_left_out: bool = False,
    decoder: Decoder = "pyav",
    json: bool = False,
) -> int:
    """Decodes every video of a collection whole, and finds copies, leaks between splits and empty classes.

    Each video is decoded in a child process with a time limit: a hang or a crash of the decoder costs that video only.
    The folder `out` gets a report, plots, quarantine.csv and each manifest without the videos that cannot be decoded.
    The exit status is 0 where nothing was found, 1 where something was.

    Args:
        sources: a manifest for each split, as train.csv val.csv test.csv; or folders of videos.
        out: folder for the report.
        root: folder that the manifests' paths are relative to; null for their own.
        class_file: a file with the class names that every split should have, one a line; null for those of any split.
        num_workers: processes; null for the number of cores, or of the Ray cluster's.
        seconds_per_video: a video that takes longer counts as one that cannot be decoded.
        sample: so many videos are read with decord and PyAV, and the frames compared.
        engine: local, or ray: the workers of the cluster that RAY_ADDRESS names, which must see the same files.
        list_left_out: name all that is passed over in folders, with the reason.
        decoder: pyav; or decord, which reports less damage, for the files of which it returns the requested frames.
        json: print the report as JSON.
    """
    if sample < 0:
        raise FarfieldError(f"sample is {sample}; it must be at least 0.")
    found = verify_collection(
        sources,
        out,
        root=root,
        labels=None if class_file is None else class_names(Path(class_file)),
        num_workers=num_workers,
        seconds_per_video=seconds_per_video,
        sample=sample,
        engine=engine,
        list_left_out=list_left_out,
        decoder=decoder,
    )
    say_left_out(found.left_out)
    if json:
        print(json_format.dumps(found.as_dict(), indent=2))
        return 0 if found.is_healthy() else 1
    print(f"{found.videos} videos, {found.hours:.2f} hours; {len(found.undecodable)} cannot be decoded")
    for reason, count in found.reasons().items():
        print(f"  {count} x {reason}")
    print(f"shared by two splits: {len(found.leaks)}")
    print(f"groups of the same file: {len(found.same_file)}; pairs that look alike: {len(found.look_alike)}")
    print(f"the same in two classes: {len(found.other_labels)}; rows that come again: {len(found.repeated_rows)}")
    print(f"classes without videos: {len(found.classes_without_videos)}")
    sampled = ", ".join(f"{count} x {says}" for says, count in found.decord.items())
    print(f"decord on a sample of {sum(found.decord.values())}, against PyAV: {sampled}")
    for reason, count in found.fallbacks.items():
        print(f"decoded by PyAV instead of decord: {count} x {reason}")
    print(f"report: {Path(out) / 'report.md'}")
    return 0 if found.is_healthy() else 1


def synthesize(
    task: Literal["figures", "recall", "recall_shape"],
    out: str,
    *,
    num_train: int = 600,
    num_val: int = 100,
    num_test: int = 200,
    seed: int = 0,
    num_workers: int | None = None,
) -> int:
    """Writes a generated data set: H.264 videos with manifests train.csv, val.csv and test.csv.

    figures: a person does everyday actions that come in time-mirrored pairs, so that only the order of frames tells.
    recall: whether an early and a late cue have the same colour (recall_shape: shape), which only long range tells.

    Args:
        task: figures, recall or recall_shape.
        out: folder to write; what is already there from the same call is kept.
        num_train: training videos.
        num_val: validation videos.
        num_test: test videos.
        seed: one seed gives the same frames on every machine.
        num_workers: processes; null for the number of cores.
    """
    folder = write_task(
        task, out, num_train=num_train, num_val=num_val, num_test=num_test, seed=seed, num_workers=num_workers
    )
    print(f"{folder}: train.csv, val.csv, test.csv")
    return 0
