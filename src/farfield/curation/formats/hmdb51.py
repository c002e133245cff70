"""Read HMDB51's official splits: files `<class>_test_split1.txt` to `<class>_test_split3.txt` with lines `NAME.avi 1`.

Published as test_train_splits.rar (folder testTrainMulti_7030_splits) at serre-lab.clps.brown.edu: 153 files for 51
classes. The number is 1 for training (70 videos of each class), 2 for testing (30), 0 for unused (1,666 in a split);
lines end in a space. Names contain characters such as # & ( [ ; + ! ~ @ and may begin with a hyphen.

A name is `<film>_<class>_<body parts>_<camera>_<people>_<view>_<quality>_<clip>`. The film is the `group` in the
manifest. One film occurs in several classes, and in training as well as in testing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.video_paths import locate_video
from farfield.curation.text_files import read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

CODES = {"train": "1", "test": "2", "unused": "0"}


def read_hmdb51(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read the training or the test videos of one split; the options `split` and `subset` say which.

    Videos are at `<class>/NAME.avi`, or anywhere below `root`.

    Raises:
        FarfieldError: for a missing or invalid `split` or `subset`, a folder without files of the split, or a malformed
            line.
    """
    if source.split not in (1, 2, 3):
        raise FarfieldError(f"split is {source.split}; HMDB51 has the splits 1, 2 and 3. Give split=1, 2 or 3.")
    if source.subset not in ("train", "test"):
        raise FarfieldError(f"subset is {source.subset}; it must be train or test. Give subset=train or subset=test.")
    suffix = f"_test_split{source.split}.txt"
    files = sorted(source.annotations.glob(f"*{suffix}"))
    if not files:
        raise FarfieldError(
            f"there is no file *{suffix} in {source.annotations}. Give the folder of HMDB51's split files as "
            "annotations."
        )
    for file in files:
        label = file.name.removesuffix(suffix)
        for name in _names(file, CODES[source.subset]):
            path = locate_video(source, f"{label}/{name}")
            if path is not None:
                yield VideoRecord(path, label, group=film_of(name, label))


def film_of(name: str, label: str) -> str | None:
    """Return the film of a file name: the part before the class; None if the name does not contain the class."""
    film, found, _ = PurePosixPath(name).stem.rpartition(f"_{label}_")
    return film if found and film else None


def _names(file: Path, code: str) -> Iterator[str]:
    """Yield the video names that a split file lists with the number `code`."""
    for line, text in enumerate(read_text(file, "Give HMDB51's split files.").splitlines(), start=1):
        if not text.strip():
            continue
        name, _, given = text.strip().rpartition(" ")
        if not name or given not in CODES.values():
            raise FarfieldError(
                f"{file}, line {line}: {text.strip()!r} must be `NAME.avi number`, where the number is 0, 1 or 2. Give "
                "HMDB51's own split files."
            )
        if given == code:
            yield name.strip()
