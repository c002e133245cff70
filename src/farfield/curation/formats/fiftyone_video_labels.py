"""Read FiftyOne's export FiftyOneVideoLabelsDataset: a manifest.json, and one label file per video in ETA's format.

    {"type": "eta.core.datasets.LabeledVideoDataset", "description": "",
     "index": [{"data": "data/a.mp4", "labels": "labels/a.json"}]}

    {"attrs": {"attrs": [{"type": "eta.core.data.CategoricalAttribute", "name": "action", "value": "jump"}]},
     "events": {"events": [{"type": "eta.core.events.VideoEvent", "name": "events", "label": "jump",
       "support": {"ranges": "1-50"}}]}}

According to FiftyOne's own code (`to_video_labels` in fiftyone/utils/eta.py and `FiftyOneVideoLabelsDatasetExporter` in
fiftyone/utils/data/exporters.py, both of version 1.22.1, with voxel51-eta 0.17.0):

- An attribute is a classification of the whole video, and an event is a temporal detection. `name` is the name of the
  FiftyOne field.
- `ranges` is a string such as "1-50,60,71-80", or a list of pairs. Frames are counted from 1, and a range includes
  its last frame, as in the field `support` of a FiftyOneDataset's samples.json.
- The format holds no frame rate.
- The file of a video without labels holds neither `attrs` nor `events`.

The frame rate is the option `fps` or, if it is not given, that of the video.

Labels of single frames, and attributes that are not text, are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.json_files import read_json
from farfield.curation.formats.tool_export import (
    checked,
    choose,
    find_videos,
    frames_to_seconds,
    join_labels,
    own_frame_rate,
)
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError

NEEDED = "Give manifest.json in the folder of an export as FiftyOneVideoLabelsDataset."

EVENTS = "events"
"""Name under which FiftyOne imports events without a name."""


def is_video_labels(content: dict[str, Any]) -> bool:
    """Return whether a JSON object is the manifest.json of a FiftyOneVideoLabelsDataset."""
    return "index" in content and str(content.get("type")).endswith(".LabeledVideoDataset")


def read_video_labels(source: AnnotationSource, path: Path, content: dict[str, Any]) -> Iterator[VideoRecord]:
    """Yield the rows of a FiftyOneVideoLabelsDataset.

    Args:
        source: videos, annotations and options of the collection.
        path: the dataset's manifest.json.
        content: JSON object in this file.

    Raises:
        FarfieldError: for a missing file, or a file in another format; if `source.subset` is given; if several fields
            hold labels and `source.label_column` does not choose one of them.
    """
    if source.subset is not None:
        raise FarfieldError(
            f"subset chooses samples by tag, but {path} has no tags. Leave subset out, or export a FiftyOneDataset."
        )
    videos: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(checked(content["index"], list, f"{path}: index"), start=1):
        where = f"{path}, video {number}"
        about = checked(entry, dict, where)
        name = checked(about.get("data"), str, f"{where}: data")
        labels = path.parent / checked(about.get("labels"), str, f"{where}: labels")
        videos[name] = checked(read_json(labels, NEEDED), dict, f"{labels}: its content")
    fields = [name for labels in videos.values() for name, _ in _named(labels, path)]
    field = choose(source.label_column, fields, "field", source)
    for name, video in find_videos(source, {name: [name] for name in videos}).items():
        rows = _rows(source, video, [item for at, item in _named(videos[name], path) if at == field], f"{path}, {name}")
        yield from rows or source.without_label(name, video)


def _named(labels: dict[str, Any], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (field name, entry) for each attribute and each event of a video; `path` names the file in messages."""
    for key in ("attrs", "events"):
        group = checked(labels.get(key) or {}, dict, f"{path}: {key}")
        for entry in checked(group.get(key) or [], list, f"{path}: {key}"):
            item = checked(entry, dict, f"{path}: one of {key}")
            if key == "events" or isinstance(item.get("value"), str):
                yield str(item.get("name") or EVENTS), item


def _rows(source: AnnotationSource, video: str, items: list[dict[str, Any]], where: str) -> list[VideoRecord]:
    whole = join_labels([item["value"] for item in items if "value" in item], where)
    rows = [VideoRecord(video, whole)] if whole else []
    events = [item for item in items if "value" not in item]
    fps = own_frame_rate(source, video) if events else 1.0
    for event in events:
        label = join_labels([checked(event.get("label"), str, f"{where}: label")], where)
        for first, last in _ranges(event.get("support"), where):
            span = frames_to_seconds(first, last, fps, f"{where}: support")
            rows += [VideoRecord(video, label, *span)] if label else []
    return rows


def _ranges(support: Any, where: str) -> list[tuple[int, int]]:
    """Return (first frame, last frame) of each range in an event's field `support`, which lists the event's frames.

    Frames are counted from 1.
    """
    ranges = checked(support, dict, f"{where}: support").get("ranges")
    if isinstance(ranges, str):
        texts = [re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part) for part in ranges.split(",")]
        pairs = [(int(each[1]), int(each[2] or each[1])) if each else None for each in texts]
    else:
        lists = [checked(each, list, f"{where}: ranges") for each in checked(ranges, list, f"{where}: ranges")]
        numbers = [[checked(number, int, f"{where}: ranges") for number in each] for each in lists]
        pairs = [(each[0], each[1]) if len(each) == 2 else None for each in numbers]
    found = [pair for pair in pairs if pair is not None]
    if not found or len(found) != len(pairs):
        raise FarfieldError(f"{where}: the frames of an event are {ranges!r}; they must have the form '1-50'. {NEEDED}")
    return found
