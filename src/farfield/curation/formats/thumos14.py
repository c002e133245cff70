"""Read THUMOS14's and MultiTHUMOS's folders of text files: one file per class, one line per segment.

    video_validation_0000266 72.8 76.4

- THUMOS14 (crcv.ucf.edu/THUMOS14): TH14_Temporal_annotations_validation.zip and _test.zip, each with a folder
  `annotation` of `<class>_val.txt` or `<class>_test.txt` for 20 classes and `Ambiguous`; times in seconds with one
  decimal place. 200 of the 1,010 validation videos and 213 of the 1,574 test videos are annotated
  (yjxiong/action-detection, issue 22). Every segment of CliffDiving is also one of Diving, and some times are wrong:
  see my_data/thumos14/annotations/louis/thumos14_readme.md of makecent/mmtad at c217270. The folder of the evaluation
  kit also has detclasslist.txt (TH14evalDet.m of Finspire13/CMCS-Temporal-Action-Localization at 426f2bb).
- MultiTHUMOS (ai.stanford.edu/~syyeung/resources/multithumos.zip): folder `annotations` of `<class>.txt` for 65
  classes, with the validation and the test videos of THUMOS14 in one file, 38,690 segments with two decimal places
  (src/arctix/dataset/multithumos.py of durandtibo/arctix at 044c932).

Ambiguous segments are hard to tell from the action, such as the moments before it starts, and are "taken out of the
evaluations" (README of the validation annotations). TH14evalDet.m does so: a detection that matches no segment but
overlaps an ambiguous one is neither a true nor a false positive. A manifest cannot express this, so ambiguous segments
are left out and reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.segments import clip_segment, parse_segment
from farfield.curation.text_files import read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

AMBIGUOUS = "Ambiguous"
SUBSETS = ("validation", "test")
NO_CLASS = ("readme", "detclasslist", "class_list")
"""Names, without suffix and in lower case, of text files that are not about a class."""
NEEDED = "Give the folder of THUMOS14's files <class>_val.txt or MultiTHUMOS's files <class>.txt."


def read_thumos14(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read a folder of THUMOS14 or MultiTHUMOS; yield a row for each segment, with the video as `group`.

    Rows are sorted by video and time. With a `subset`, only videos named `video_<subset>_...` are read. Ambiguous
    segments, and segments that are empty or end before the video begins, are left out and reported.

    Raises:
        FarfieldError: for a folder without files <class>.txt, a malformed line, an unknown subset, or a subset without
            videos.
    """
    if source.subset not in (None, *SUBSETS):
        raise FarfieldError(f"subset is {source.subset!r}; it must be validation or test.")
    listed = sorted(_read_folder(source.annotations), key=lambda each: (each[0], each[2], each[3], each[1]))
    source.skip_not_annotated({video for video, *_ in listed})
    if source.subset is not None:
        listed = [each for each in listed if each[0].startswith(f"video_{source.subset}_")]
        if not listed:
            raise FarfieldError(
                f"{source.annotations} lists no video of the subset {source.subset!r}: none is named "
                f"video_{source.subset}_... {NEEDED}"
            )
    paths = {video: source.find_video(video) for video in dict.fromkeys(video for video, *_ in listed)}
    for video, label, start, end in listed:
        segment = clip_segment(start, end, None)
        path = paths[video]
        if path is None:
            continue
        if label == AMBIGUOUS:
            reason = "is ambiguous: it may or may not show the action"
            source.left_out.append((video, f"the segment [{start:g}, {end:g}) {reason}"))
        elif isinstance(segment, str):
            source.left_out.append((video, f"the segment [{start:g}, {end:g}) of {label!r} {segment}"))
        else:
            yield VideoRecord(path, label, *segment, group=video)


def _read_folder(folder: Path) -> Iterator[tuple[str, str, float, float]]:
    """Yield (video, class, start in seconds, end in seconds) for each line of the class files in a folder."""
    files = [file for file in sorted(folder.glob("*.txt")) if file.stem.lower() not in NO_CLASS]
    if not files:
        below = sorted(file.parent for file in folder.glob("*/*.txt"))
        found = f" There are such files in {below[0]}." if below else ""
        raise FarfieldError(f"there are no files <class>.txt in {folder}.{found} {NEEDED}")
    for file in files:
        label = file.stem.removesuffix("_val").removesuffix("_test")
        for number, line in enumerate(read_text(file, NEEDED).splitlines(), start=1):
            if not line.strip():
                continue
            video, *times = line.split()
            segment = parse_segment(times)
            if segment is None:
                raise FarfieldError(
                    f"{file}, line {number}: {line.strip()!r} must be `video start end` with times in seconds, such as "
                    f"`video_validation_0000266 72.8 76.4`. {NEEDED}"
                )
            yield video, label, *segment
