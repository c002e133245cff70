"""Read FiftyOne's JSON exports: FiftyOneDataset (samples.json), FiftyOneTemporalDetectionDataset (labels.json).

FiftyOneVideoLabelsDataset (manifest.json) is recognised here, and read by `fiftyone_video_labels.py`.

    {"samples": [{"filepath": "data/a.mp4", "tags": ["train"], "metadata": {"frame_rate": 25.0, ...},
      "action": {"_cls": "Classification", "label": "jump"},
      "events": {"_cls": "TemporalDetections", "detections": [{"label": "jump", "support": [1, 50]}]}}]}

    {"classes": ["jump", "run"], "labels": {"a": [{"label": 0, "support": [1, 50]}], "b": null}}

According to FiftyOne's own code and documentation:

- `support` is "the [first, last] frame numbers, inclusive" (`TemporalDetection` in fiftyone/core/labels.py,
  voxel51/fiftyone@00c7f10), counted from 1 (`timestamp_to_frame_number` in eta/core/frameutils.py of voxel51/eta).
  Hence a support is [(first - 1)/fps, last/fps) seconds. FiftyOne itself maps frame 1 to 0 and the last frame of a
  video to its duration.
- labels.json has `timestamps` in seconds in place of `support` if it was exported with use_timestamps=True. If the
  file has the key `classes`, a label is the number of its class, from 0. A video without labels is null or missing
  (FiftyOne's user guide, FiftyOneTemporalDetectionDataset). The keys of `labels` are the videos' names without suffix.
  The file has no frame rate.
- samples.json holds each sample's fields and a `filepath` relative to the export (`FiftyOneDatasetExporter` in
  fiftyone/utils/data/exporters.py); the frame rate is included if metadata was computed (`VideoMetadata.frame_rate`).

The frame rate of a video is the one in the file. If the file has none, the frame rate is the option `fps` or, if this
option is not given, that of the video itself.

Labels of single frames, and boxes, are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farfield.curation.folder_scan import has_video_suffix
from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.fiftyone_video_labels import is_video_labels, read_video_labels
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

NEEDED = (
    "Give the folder of an export, or its file: samples.json (FiftyOneDataset), labels.json "
    "(FiftyOneTemporalDetectionDataset) or manifest.json (FiftyOneVideoLabelsDataset)."
)

FILES = ("samples.json", "labels.json", "manifest.json")

FIELDS = {
    "Classification": None,
    "Classifications": "classifications",
    "TemporalDetection": None,
    "TemporalDetections": "detections",
}
"""FiftyOne's label classes that farfield reads.

Each is mapped to the key under which it lists its labels; None if it holds a single label.
"""


def read_fiftyone(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read FiftyOne's samples.json, labels.json or manifest.json.

    The classifications of a video form one row for the whole video. Each temporal detection is a row. With
    manifest.json, a detection may have several ranges of frames; each range is then a row.

    Two options are only for some of the files:

    - `source.subset` chooses samples by tag; only for samples.json.
    - `source.label_column` chooses the field if several fields have labels; only for samples.json and manifest.json.

    Raises:
        FarfieldError: in these cases:

            - a file is missing or in another format, or a folder does not have exactly one of the three files;
            - an option is given that is not for this file;
            - no sample has the tag `source.subset`;
            - `source.label_column` is not a field with labels;
            - `source.label_column` is None, and several fields have labels.
    """
    path = _labels_file(source.annotations)
    content = checked(read_json(path, NEEDED), dict, f"{path}: its content")
    if "samples" in content:
        yield from _read_samples(source, path, checked(content["samples"], list, f"{path}: samples"))
    elif "labels" in content:
        yield from _read_labels(source, path, content)
    elif is_video_labels(content):
        yield from read_video_labels(source, path, content)
    else:
        raise FarfieldError(
            f"{path} has the keys {', '.join(content) or 'none'}; it needs 'samples', 'labels' or 'index'. {NEEDED}"
        )


def _labels_file(given: Path) -> Path:
    if not given.is_dir():
        return given
    found = [given / name for name in FILES if (given / name).is_file()]
    if len(found) != 1:
        has = " and ".join(file.name for file in found) or f"none of {', '.join(FILES)}"
        raise FarfieldError(f"{given} has {has}; it must have exactly one of these files. {NEEDED}")
    return found[0]


def _read_samples(source: AnnotationSource, path: Path, entries: list[Any]) -> Iterator[VideoRecord]:
    samples: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(entries, start=1):
        sample = checked(entry, dict, f"{path}, sample {number}")
        name = checked(sample.get("filepath"), str, f"{path}, sample {number}: filepath")
        if name in samples:
            raise FarfieldError(f"{path} has two samples of {name}. Export a dataset that has each video once.")
        if source.subset is None or source.subset in checked(sample.get("tags", []), list, f"{path}, {name}: tags"):
            samples[name] = sample
    if entries and not samples:
        raise FarfieldError(
            f"subset is {source.subset!r}, but no sample of {path} has this tag. Give a tag of the samples."
        )
    labelled = [field for sample in samples.values() for field, value in sample.items() if _is_read(value)]
    field = choose(source.label_column, labelled, "field", source)
    for name, video in find_videos(source, {name: [name] for name in samples}).items():
        value = samples[name].get(field or "")
        rows = _rows_of_field(source, video, samples[name], value, f"{path}, {name}") if value else []
        yield from rows or source.without_label(name, video)


def _is_read(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_cls") in FIELDS


def _rows_of_field(
    source: AnnotationSource, video: str, sample: dict[str, Any], value: Any, where: str
) -> list[VideoRecord]:
    """Return the rows for one field of a sample; no rows if the field holds neither classifications nor detections.

    Args:
        source: videos, annotations and options of the collection.
        video: path of the video.
        sample: JSON object of the sample.
        value: value of the field.
        where: name of the sample in messages.
    """
    if not _is_read(value):
        return []
    key = FIELDS[value["_cls"]]
    items = [value] if key is None else checked(value.get(key), list, f"{where}: {key}")
    items = [checked(item, dict, f"{where}: a label") for item in items]
    items = [item for item in items if item.get("label") is not None]
    labels = [join_labels([checked(item["label"], str, f"{where}: label")], where) for item in items]
    if "Classification" in value["_cls"]:
        label = join_labels(labels, where)
        return [VideoRecord(video, label)] if label else []
    fps = _frame_rate(source, video, sample.get("metadata"), where) if items else 0.0
    spans = [_seconds(item.get("support"), fps, where) for item in items]
    return [VideoRecord(video, label, *span) for label, span in zip(labels, spans, strict=True) if label]


def _frame_rate(source: AnnotationSource, video: str, metadata: Any, where: str) -> float:
    """Return the frame rate in the sample's metadata or, if there is none, the result of `own_frame_rate`.

    `own_frame_rate` returns the option `fps` or, if it is not given, the video's own rate.
    """
    given = metadata.get("frame_rate") if isinstance(metadata, dict) else None
    if given is None:
        return own_frame_rate(source, video)
    rate = float(checked(given, float, f"{where}: metadata.frame_rate"))
    if not rate > 0:
        raise FarfieldError(f"{where}: metadata.frame_rate is {rate}; it must be above 0. Compute the metadata again.")
    return rate


def _seconds(support: Any, fps: float, where: str) -> tuple[float, float]:
    first, last = _pair(support, f"{where}: support")
    return frames_to_seconds(first, last, fps, f"{where}: support")


def _pair(value: Any, where: str) -> tuple[float, float]:
    numbers = [checked(number, float, where) for number in checked(value, list, where)]
    if len(numbers) != 2:
        raise FarfieldError(f"{where} is {numbers}; it must be two numbers. Export the dataset again.")
    return numbers[0], numbers[1]


def _read_labels(source: AnnotationSource, path: Path, content: dict[str, Any]) -> Iterator[VideoRecord]:
    """Yield the rows of a FiftyOneTemporalDetectionDataset."""
    for option, value in (("subset", source.subset), ("label_column", source.label_column)):
        if value is not None:
            raise FarfieldError(
                f"{option} is given, but {path} is in a format without tags and fields. Leave {option} out, or export "
                "the data set from FiftyOne as a FiftyOneDataset."
            )
    given = content.get("classes")
    classes = None if given is None else checked(given, list, f"{path}: classes")
    labels = checked(content["labels"], dict, f"{path}: labels")
    wanted = {name: [name if has_video_suffix(name) else f"{name}.mp4"] for name in labels}
    for name, video in find_videos(source, wanted).items():
        where = f"{path}, {name}"
        items = checked(labels[name] or [], list, where)
        rows = [_row_of_detection(source, video, checked(item, dict, where), classes, where) for item in items]
        yield from rows or source.without_label(name, video)


def _row_of_detection(
    source: AnnotationSource, video: str, item: dict[str, Any], classes: list[Any] | None, where: str
) -> VideoRecord:
    if classes is None:
        label = checked(item.get("label"), str, f"{where}: label")
    else:
        number = checked(item.get("label"), int, f"{where}: label")
        if not 0 <= number < len(classes):
            raise FarfieldError(
                f"{where}: the label is {number}; it must be below the number of classes, {len(classes)}. Add the "
                "missing class names to 'classes'."
            )
        label = checked(classes[number], str, f"{where}: class {number}")
    label = join_labels([label], where)
    if not label:
        raise FarfieldError(f"{where}: a label is empty. Give every detection a label.")
    if "timestamps" in item:
        start, end = _pair(item["timestamps"], f"{where}: timestamps")
        if not 0 <= start < end:
            raise FarfieldError(
                f"{where}: timestamps is [{start}, {end}]; it must be [start, end] with 0 <= start < end. "
                "Correct the times."
            )
    else:
        start, end = _seconds(item.get("support"), own_frame_rate(source, video), where)
    return VideoRecord(video, label, start, end)
