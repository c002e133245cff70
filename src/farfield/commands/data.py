"""`farfield data ...`: manifests and generated data sets."""

from __future__ import annotations

import sys
from typing import Literal

from farfield.data.indexing import Format, index_videos
from farfield.data.synthesis.write import synthesize as write_task


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
