"""Read PySlowFast's lists (train.csv and others): one line `path label`, `path number label` or `path` per video.

The separator is a space, or a comma if DATA.PATH_LABEL_SEPARATOR says so. PySlowFast ignores the number in the middle,
and gives class 0 to a video without a label (slowfast/datasets/kinetics.py, commit 287ec00). Here, such a video is left
out.
"""

from __future__ import annotations

from collections.abc import Iterator

from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.label_list import name_labels, read_list
from farfield.curation.text_files import read_text
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

FRAME_LIST = "original_vido_id"
"""First word of PySlowFast's lists of frames, spelled as in PySlowFast."""


def read_pyslowfast(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read one of PySlowFast's lists of videos; yield a row for each video.

    Raises:
        FarfieldError: if the file lists frames instead of videos, as PySlowFast's lists of Charades do; if a line is
            malformed; if a label number has no class name.
    """
    if read_text(source.annotations, "Give a list with one line `path label` per video.").startswith(FRAME_LIST):
        raise FarfieldError(
            f"{source.annotations} lists frames, not videos. For Charades, give --format charades and Charades' own "
            "CSV; for other collections, give a list with one line `path label` per video."
        )
    lines = read_list(source, "`path label`")
    for line in lines:
        if len(line.numbers) > 2:
            raise FarfieldError(
                f"{line.place}: {len(line.numbers)} numbers follow {line.path!r}. PySlowFast's lists have one label "
                "per video. For several labels per video, give --format mmaction2."
            )
    names = name_labels(source, [(line.place, line.numbers[-1]) for line in lines if line.numbers])
    for line in lines:
        if line.numbers:
            yield VideoRecord(line.path, names[line.numbers[-1]])
        else:
            source.left_out.append((line.path, f"{NO_LABEL} (PySlowFast uses class 0; for this class, write `path 0`)"))
