"""`farfield data ...`: manifests and generated data sets."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Literal

from farfield.data.indexing import Format, class_names, index_videos
from farfield.data.parallel import Engine
from farfield.data.prepare import prepare as prepare_store
from farfield.data.prepare import summarise
from farfield.data.subset import Selection, write_subset
from farfield.data.synthesis.write import synthesize as write_task
from farfield.data.transcode import Encoding
from farfield.errors import FarfieldError
from farfield.kinetics import kinetics400_labels


def index(
    root: str,
    out: str,
    *,
    format: Format = "folders",
    annotations: str | None = None,
    labels: str | None = None,
    num_workers: int | None = None,
) -> int:
    """Makes a manifest of a collection of videos, opening each once to note its length, rate and size.

    Videos that cannot be read are named and left out.

    Args:
        root: folder of the videos.
        out: manifest to write (CSV).
        format: folders (root/label/video), kinetics (its CSV, videos named <id>_<start>_<end>), pyslowfast, mmaction2.
        annotations: Kinetics' CSV, or the list file of the other formats; not needed for folders.
        labels: for lists, a file with one class name a line, in the order of the numbers; null keeps the numbers.
        num_workers: processes; null for the number of cores.
    """
    made = index_videos(root, out, format=format, annotations=annotations, labels=labels, num_workers=num_workers)
    classes = len({record.label for record in made.records})
    print(f"{out}: {len(made.records)} videos of {classes} classes")
    for path, reason in made.failures:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    if made.failures:
        print(f"{len(made.failures)} videos were left out.", file=sys.stderr)
    return 0


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
    )
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
            print(f"{made.unlabelled} have no known class and are not in manifest.csv.", file=sys.stderr)
        for reason, count in made.reasons().items():
            print(f"failed: {count} x {reason}", file=sys.stderr)
    return 1 if made.failures else 0


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
