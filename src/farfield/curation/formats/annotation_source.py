"""Input of an annotation reader (`AnnotationSource`), and description of an annotation format (`Format`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from farfield.curation.folder_scan import Reason, SkippedFiles, has_video_suffix, scan_folder
from farfield.data.video_record import VideoRecord

NO_LABEL = "it has no label"
"""Reason for leaving out a video or a row; published lists of test videos, for example, have no labels."""


@dataclass
class AnnotationSource:
    """Videos and annotations of a collection, and the options that some formats need.

    Attributes:
        root: folder of the videos.
        annotations: annotation file or folder; `root` if the format has no annotations.
        labels: file of class names, or folder of such files, in the form that the annotation format requires; None if
            none was given.
        subset: subset of the collection to read, such as "validation", if the annotations hold several; None for all.
        split: number of the official split to read, for data sets with several; None if none was given.
        label_column: name of the column, attribute or field that holds the label, for annotations with several columns,
            attributes or fields; None if none was given.
        columns: name of the column (or JSON key), by manifest field, for formats without fixed columns. Holds only the
            fields that were given.
        fps: frame rate, for folders of pictures and for converting frame numbers to seconds; None if none was given.
        first_label: number of the first class in the file `labels`, 0 or 1, for formats whose labels are numbers; only
            allowed if `labels` is given. None if none was given; the first class then has this number:

            - If the file `labels` numbers the classes, it is the lowest of these numbers.
            - Otherwise, if the labels in the annotations run from 1 to the number of classes, it is 1.
            - Otherwise it is 0. If the annotations have labels but none of them is 0, the reader raises an error, since
              these labels may count from 1.
        unlabelled_as_none: whether to keep annotated videos without a label, as videos that show none of the classes;
            if False, they are left out.
        skipped: files under `root` that are not used. The scan of `root` adds files that are not videos; readers add
            videos, such as those that the annotations do not list.
        left_out: (name, reason) of each entry of the annotations that is not used, such as a video without a label.
            Readers add to it.
    """

    root: Path
    annotations: Path
    labels: Path | None = None
    subset: str | None = None
    split: int | None = None
    label_column: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    fps: float | None = None
    first_label: int | None = None
    unlabelled_as_none: bool = False
    skipped: SkippedFiles = field(default_factory=SkippedFiles)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def files_by_stem(self) -> dict[str, list[str]]:
        """Paths of the videos under `root`, relative to `root`, by file name without suffix. Scans the folder once."""
        found: dict[str, list[str]] = defaultdict(list)
        for file in scan_folder(self.root, self.skipped, frame_folders=self.fps is not None):
            stem = file.stem if has_video_suffix(file) else file.name  # a folder of pictures may have a dot in its name
            found[stem].append(file.relative_to(self.root).as_posix())
        return dict(found)

    @cached_property
    def folders(self) -> set[tuple[str, ...]]:
        """Folders under `root` that hold a video, each as the parts of its path relative to `root`."""
        return {PurePosixPath(file).parent.parts for files in self.files_by_stem.values() for file in files}

    def find_video(self, stem: str, *, suffix: str = ".mp4") -> str | None:
        """Find a video by its file name without folder and suffix.

        Args:
            stem: file name without suffix.
            suffix: suffix of the returned path if the video is missing.

        Returns:
            Path relative to `root`; for a missing video, the path at which it would be. If several folders hold a video
            of this name, the name is added to `left_out`, and the result is None.
        """
        found = self.files_by_stem.get(stem, [])
        if len(found) > 1:
            self.leave_out_ambiguous(stem, found)
            return None
        return found[0] if found else stem + suffix

    def without_label(self, name: str, path: str) -> list[VideoRecord]:
        """Return the rows for a video without a label.

        With `unlabelled_as_none`, this is one row with an empty label. Otherwise there is no row, and the video is
        added to `left_out`.

        Args:
            name: name of the video in the annotations.
            path: path of the video relative to `root`.
        """
        if self.unlabelled_as_none:
            return [VideoRecord(path, "")]
        self.left_out.append((name, NO_LABEL))
        return []

    def leave_out_ambiguous(self, name: str, found: Sequence[str]) -> None:
        """Add a name to `left_out`, because several videos have it; `found` are their paths."""
        self.left_out.append((name, f"several videos have this name: {', '.join(found[:3])}"))

    def skip_not_annotated(self, stems: Set[str]) -> None:
        """Add to `skipped` the videos under `root` whose file name without suffix is not in `stems`."""
        for stem in self.files_by_stem.keys() - stems:
            for path in self.files_by_stem[stem]:
                self.skipped.add(Reason.NOT_ANNOTATED, self.root / path)


@dataclass(frozen=True)
class Format:
    """An annotation format.

    Attributes:
        read: reader; yields a row for each annotated video or segment, with a path relative to the root or absolute.
            A video that does not exist is yielded, too: `index_videos` reports it as missing.
        annotations: description of the annotations that the user must give, such as "the list of the videos", for
            messages; None if the format has no annotations.
        options: options that the format uses: any of labels, subset, split, label_column, columns, fps, first_label and
            unlabelled_as_none.
    """

    read: Callable[[AnnotationSource], Iterator[VideoRecord]]
    annotations: str | None = None
    options: frozenset[str] = frozenset()
