"""Read Jester: CSV files of lines `id;label`, and a folder of JPEG frames for each id.

Published at https://www.qualcomm.com/developer/software/jester-dataset as `jester-v1-train.csv` (118,562 lines),
`jester-v1-validation.csv` (14,787) and `jester-v1-test.csv` (14,743), which has no labels. The lists name the 27
classes, so that `jester-v1-labels.csv` is not needed. The lists do not say which person a video shows.
"""

from __future__ import annotations

from collections.abc import Iterator

from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.id_label_csv import find_frames_or_video, read_id_label_csv
from farfield.data.video_record import VideoRecord


def read_jester(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read one of Jester's lists; yield a row for each video.

    A video is a folder of frames named `<id>` directly below the root, or a video file with this name.

    Raises:
        FarfieldError: for a missing file or a malformed line.
    """
    for video_id, label in read_id_label_csv(
        source.annotations, "Give Jester's list, for example jester-v1-train.csv."
    ):
        if not label:
            source.left_out.append((video_id, NO_LABEL))
        elif path := find_frames_or_video(source, video_id):
            yield VideoRecord(path, label)
