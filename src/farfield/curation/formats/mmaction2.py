"""Read MMAction2's lists, with one line for each video or folder of frames.

    path label [label ...]                     videos; several labels with MMAction2's option multi_class
    folder total label [label ...]             folders of `total` frames
    folder offset total label [label ...]      frames [offset, offset + total) of a folder, with option with_offset

(mmaction/datasets/video_dataset.py and rawframe_dataset.py, release 1.2.0.) A path that has a video suffix, or is a
file, is a video; any other path is a folder. So `a.mp4 1 3` has the labels 1 and 3, and `a 1 3` has one frame and the
label 3. The line of a folder is read with an offset if both of these hold: the line's first number is not the folder's
number of frames, and every line about a folder has at least three numbers. A folder is left out if its line covers only
a part of it, since a manifest has no frame numbers. It is also left out if its line covers frames that the folder
does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from farfield.curation.folder_scan import has_video_suffix
from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.label_list import ListLine, name_labels, read_list
from farfield.data.video_record import VideoRecord

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


def read_mmaction2(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read one of MMAction2's lists; yield a row for each video file or folder of frames.

    Raises:
        FarfieldError: for a malformed line, or a label number without a class name.
    """
    lines = read_list(source, "`path label`")
    are_folders = [_is_folder(source.root, line) for line in lines]
    may_have_offset = all(
        len(line.numbers) > 2 for line, is_folder in zip(lines, are_folders, strict=True) if is_folder
    )
    used: list[tuple[ListLine, tuple[int, ...]]] = []
    for line, is_folder in zip(lines, are_folders, strict=True):
        labels: tuple[int, ...] | str = line.numbers
        if is_folder and (source.root / line.path).is_dir():
            labels = _labels_of_frames(line.numbers, _count_frames(source.root / line.path), may_have_offset)
        elif is_folder:  # it is missing, and its last number is a label in any form
            labels = line.numbers[-1:]
        if isinstance(labels, str):
            source.left_out.append((line.path, labels))
        elif labels:
            used.append((line, labels))
        else:
            source.left_out.append((line.path, NO_LABEL))
    names = name_labels(source, [(line.place, label) for line, labels in used for label in labels])
    for line, labels in used:
        yield VideoRecord(line.path, "|".join(dict.fromkeys(names[label] for label in labels)))


def _is_folder(root: Path, line: ListLine) -> bool:
    return not has_video_suffix(line.path) and not (root / line.path).is_file()


def _count_frames(folder: Path) -> int:
    """Count the images of a folder. If some are named `img_...`, the others are optical flow and do not count."""
    images = [file.name for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    return sum(name.startswith("img_") for name in images) or len(images)


def _labels_of_frames(numbers: tuple[int, ...], frames: int, may_have_offset: bool) -> tuple[int, ...] | str:
    """Return the labels of a folder of frames, or the reason, as text, why the folder cannot be used.

    Args:
        numbers: numbers after the path in the folder's line.
        frames: number of frames in the folder.
        may_have_offset: whether the numbers may start with an offset. This is possible only if every line about a
            folder has at least three numbers.
    """
    if not may_have_offset or numbers[0] == frames:
        total, labels = numbers[0] if numbers else frames, numbers[1:]
        return labels if total == frames else f"the number of frames is {total} in the list, but {frames} in the folder"
    offset, total = numbers[:2]
    if (offset, total) == (0, frames):
        return numbers[2:]
    if offset + total <= frames:
        return f"the list labels only {total} of the folder's {frames} frames, from frame {offset} on"
    return (
        f"the numbers {offset} {total} fit the folder's {frames} frames neither as `offset total` nor as `total label`"
    )
