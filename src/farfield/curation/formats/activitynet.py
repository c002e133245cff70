"""Read ActivityNet's JSON file of annotated segments, a format that HACS Segments and THUMOS14 use, too.

    {"database": {"ID": {"subset": "training", "duration": 12.5, "annotations": [{"label": "L", "segment": [0.5, 3]}]}}}

- ActivityNet v1.3: activity_net.v1-3.min.json (activity-net.org); videos `v_<id>.mp4`. About 0.3 % of its segments are
  empty or last 0.01 s, such as [0, 0] and [0.01, 0.02] (activitynet/ActivityNet, issue 56, 2019-09).
- HACS Segments v1.1: `duration` is text ("92.166667"); 37,618 training, 5,982 validation and 5,988 testing videos,
  `<class>/v_<id>.mp4` (README of hangzhaomit/HACS-dataset at 02b5af4).
- Several projects publish THUMOS14 in this format, with different names of the subsets. One has "Validation" and
  "Test", with the further keys `fps`, `segment(frames)` and `label_id` (sazzadadib/CSE499A--BBFormer at 54e3a7c).
  Another calls the subset of the videos video_validation_* "training" (dangtna1/THUMOS-14_TAD at 54dd759). Some of
  THUMOS14's segments begin after the end of their video: the last two segments of video_validation_0000364, the last
  two of _0000856, the last three of video_test_0000814, the last one of _0001081, and most of _0000270
  (my_data/thumos14/annotations/louis/thumos14_readme.md of makecent/mmtad at c217270). A class "Ambiguous", if a file
  has one, is read like any other class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.json_files import read_json
from farfield.curation.formats.segments import clip_segment, parse_seconds, parse_segment
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest

NEEDED = "Give ActivityNet's JSON, for example activity_net.v1-3.min.json."


def read_activitynet(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read ActivityNet's JSON; yield a row for each segment, with the video's id as `group`.

    Videos are named `v_<id>` or `<id>`, with any video suffix, anywhere under `root`. Segments are clipped to
    [0, duration). A segment that is empty, or empty after clipping, is left out and reported.

    Raises:
        FarfieldError: for a file in another format, an invalid segment, or a subset that the file does not have.
    """
    database = read_database(source.annotations)
    source.skip_not_annotated({f"{prefix}{video_id}" for video_id in database for prefix in ("", "v_")})
    for video_id, entry in choose_subset(database, source).items():
        annotations = entry.get("annotations")
        if not annotations:
            source.left_out.append((video_id, NO_LABEL))
        elif (path := find_video(source, video_id)) is not None:
            where = f"{source.annotations}, video {video_id!r}"
            duration = read_duration(entry, where)
            for label, start, end in read_segments(entry, where):
                segment = clip_segment(start, end, duration)
                if isinstance(segment, str):
                    source.left_out.append((video_id, f"the segment [{start:g}, {end:g}) of {label!r} {segment}"))
                else:
                    yield VideoRecord(path, label, *segment, group=video_id)


def read_database(path: Path) -> dict[str, dict[str, Any]]:
    """Read ActivityNet's JSON; return the entry of each video, by video id."""
    content = read_json(path, NEEDED)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise FarfieldError(f"{path} has no object 'database' with an entry for each video. {NEEDED}")
    for video_id, entry in database.items():
        if not isinstance(entry, dict):
            raise FarfieldError(
                f"{path}, video {video_id!r}: the entry is {entry!r}; it must be an object with the key 'annotations'."
            )
    return database


def choose_subset(database: dict[str, dict[str, Any]], source: AnnotationSource) -> dict[str, dict[str, Any]]:
    """Return the entries of the subset that `source` names; all entries if it names none."""
    if source.subset is None:
        return database
    chosen = {video_id: entry for video_id, entry in database.items() if entry.get("subset") == source.subset}
    if not chosen:
        found = sorted({str(entry["subset"]) for entry in database.values() if "subset" in entry})
        raise FarfieldError(
            f"{source.annotations} has no video of the subset {source.subset!r}. {nearest(source.subset, found)}"
        )
    return chosen


def find_video(source: AnnotationSource, video_id: str) -> str | None:
    """Find a video by its id: the file `v_<id>` or `<id>`, with any video suffix, anywhere below `source.root`.

    Returns:
        Path relative to `source.root`; `<id>.mp4` for a missing video. If several videos fit, this is recorded in
        `source.left_out`, and the result is None.
    """
    stems = [stem for stem in (f"v_{video_id}", video_id) if stem in source.files_by_stem]
    if len(stems) > 1:
        source.left_out.append((video_id, f"two videos have this id: {' and '.join(stems)}"))
        return None
    return source.find_video(stems[0] if stems else video_id)


def read_duration(entry: Mapping[str, Any], where: str) -> float | None:
    """Return the duration of a video, in seconds; None if the entry has none."""
    given = entry.get("duration")
    duration = parse_seconds(given)
    if given is not None and duration is None:
        raise FarfieldError(f"{where}: duration is {given!r}; it must be a number of seconds.")
    return duration


def read_segments(entry: Mapping[str, Any], where: str) -> Iterator[tuple[str, float, float]]:
    """Yield (label, start, end) of each segment of a video, in seconds. `where` names the entry in messages."""
    if not isinstance(entry["annotations"], list):
        raise FarfieldError(f"{where}: annotations must be a list of objects with the keys 'label' and 'segment'.")
    for number, annotation in enumerate(entry["annotations"], start=1):
        label, given = (annotation.get(key) if isinstance(annotation, dict) else None for key in ("label", "segment"))
        if not isinstance(label, str) or not label.strip():
            raise FarfieldError(f"{where}, annotation {number}: label is {label!r}; it must be the name of a class.")
        segment = parse_segment(given)
        if segment is None:
            raise FarfieldError(
                f"{where}, annotation {number}: segment is {given!r}; it must be [start, end] in seconds."
            )
        yield label.strip(), *segment
