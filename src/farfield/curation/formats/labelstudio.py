"""Read Label Studio's JSON export: video timelines and choices for whole videos.

    [{"id": 7, "data": {"video": "/data/upload/3/1a2b3c4d-name.mp4"}, "annotations": [{"was_cancelled": false,
      "ground_truth": false, "result": [{"from_name": "actions", "type": "timelinelabels",
      "value": {"ranges": [{"start": 3, "end": 5}], "timelinelabels": ["jump"]}}]}]}]

According to Label Studio's own code:

- Frames are counted from 1: the player shows frame n at time (n - 1)/fps (`goToFrame` in
  web/libs/editor/src/components/VideoCanvas/VideoCanvas.tsx, HumanSignal/label-studio@014c626; earlier versions showed
  it at n/fps), and a timeline's first frame is 1 (Frames.tsx@009832d).
- `end` is the last frame of the range: a click on one frame gives start = end (`addTimelineRegion` in
  Video.js@025bce5), and Label Studio's own model labels the frames `start - 1` to `end - 1`, counted from 0
  (utils/converter.py of the YOLO example in HumanSignal/label-studio-ml-backend@5c12977; version 1aef349 counted
  differently, and so do other readers).
- Hence a range is [(start - 1)/fps, end/fps) seconds. Here fps is the `frameRate` of the labelling configuration, by
  default 24; the video's own rate may be different. The export contains this rate only if the configuration takes it
  from the data of each task (`frameRate="$fps"`).
- An uploaded file is named by 8 hexadecimal digits, a hyphen and the file's name (`upload_name_generator` in
  label_studio/data_import/models.py@0012445), where Django has replaced spaces by underscores and removed all
  characters except letters, digits, `_`, `-` and `.`.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from farfield.curation.formats.annotation_source import NO_LABEL, AnnotationSource
from farfield.curation.formats.json_files import read_json
from farfield.curation.formats.tool_export import (
    checked,
    choose,
    find_videos,
    frame_rate,
    frames_to_seconds,
    join_labels,
)
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest

NEEDED = "Give Label Studio's export in the format JSON."

TYPES = ("timelinelabels", "choices")
"""Types of results that are read. Others, such as videorectangle, taxonomy and textarea, are not."""

COLUMNS = ("path", "group", "fps")
"""Fields of a manifest for which the option `columns` may name a key in a task's data."""

Row = tuple[str, float | None, float | None]
"""Label, start and end in seconds."""


@dataclass(frozen=True)
class _Annotation:
    """One annotator's answer for a video.

    Attributes:
        where: name of the annotation in messages.
        cancelled: whether the annotation was cancelled (`was_cancelled`); it is then ignored.
        ground_truth: whether the annotation is marked as ground truth.
        results: timeline labels and choices, as in the export. Results of other types are not kept.
    """

    where: str
    cancelled: bool
    ground_truth: bool
    results: list[dict[str, Any]]


def read_labelstudio(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read Label Studio's JSON export.

    Each range of a timeline gives a row, and the choices for a whole video give one row. Cancelled annotations are
    ignored. If some of a video's annotations are marked as ground truth, only these count. A video is left out if the
    annotations that count give different rows. `columns` may map `path`, `group` and `fps` to the keys of a task's data
    that hold the video, its group and the frame rate.

    Raises:
        FarfieldError: for a file in another format; for several labelling controls without `label_column`; for ranges
            of frames, if neither the task's data nor the option `fps` gives the frame rate.
    """
    by_video, groups, rates = _read_tasks(source)
    everything = [result for each in by_video.values() for one in each for result in one.results]
    control = choose(source.label_column, [result["from_name"] for result in everything], "control", source)
    paths = find_videos(source, _paths_to_look_for(source, list(by_video)))
    for video, path in paths.items():
        rows, reason = _agreed(source, by_video[video], control, rates.get(video))
        if not rows and not reason and source.unlabelled_as_none:
            rows = [("", None, None)]
        if not rows:
            source.left_out.append((video, reason or NO_LABEL))
        for label, start, end in rows:
            yield VideoRecord(path, label, start, end, group=groups.get(video))


def _read_tasks(source: AnnotationSource) -> tuple[dict[str, list[_Annotation]], dict[str, str], dict[str, float]]:
    """Return annotations, groups and frame rates, each by video.

    A video whose tasks give no group has no entry in the groups; one whose tasks give no frame rate has none in the
    frame rates.
    """
    by_video: dict[str, list[_Annotation]] = defaultdict(list)
    groups: dict[str, str] = {}
    rates: dict[str, float] = {}
    keys: set[str] = set()
    unknown = set(source.columns) - set(COLUMNS)
    if unknown:
        raise FarfieldError(
            f"columns has an unknown field {sorted(unknown)[0]!r}. {nearest(sorted(unknown)[0], COLUMNS)}"
        )
    key = source.columns.get("path", "video")
    tasks = checked(read_json(source.annotations, NEEDED), list, f"{source.annotations}: its content")
    for number, entry in enumerate(tasks, start=1):
        task = checked(entry, dict, f"{source.annotations}, task {number} of the list")
        where = f"{source.annotations}, task {task.get('id', f'{number} of the list')}"
        if "predictions" in task and "annotations" not in task:
            raise FarfieldError(
                f"{where} has predictions, but no annotations. Import the file into Label Studio, "
                "submit its tasks, and give the export in the format JSON."
            )
        if "annotations" not in task or "data" not in task:
            raise FarfieldError(
                f"{where} lacks 'data' or 'annotations'; it may be an export in the format JSON-MIN or CSV. {NEEDED}"
            )
        data = checked(task["data"], dict, f"{where}: data")
        if key not in data:
            raise FarfieldError(
                f"{where}: data has no key {key!r}; its keys are {', '.join(data) or 'none'}. Name the key that holds "
                "the video's path, for example columns={'path': 'clip'} (--columns path=clip)."
            )
        video = _path_of_url(checked(data[key], str, f"{where}: data.{key}"))  # without a signature, which is secret
        if (group := data.get(source.columns.get("group"))) not in (None, ""):
            groups[video] = str(group)
        if source.columns.get("fps") in data:
            rates[video] = _rate(data[source.columns["fps"]], f"{where}: data.{source.columns['fps']}")
        by_video[video] += [_annotation(each, where) for each in checked(task["annotations"], list, where)]
        keys |= data.keys()
    for name in ("group", "fps"):
        if (given := source.columns.get(name)) is not None and given not in keys:
            raise FarfieldError(
                f"no task of {source.annotations} has the key {given!r} in its data. {nearest(given, sorted(keys))}"
            )
    return by_video, groups, rates


def _rate(value: Any, where: str) -> float:
    """Parse a frame rate that is given as a number or as text; `where` names the value in messages."""
    try:
        rate = float(value) if isinstance(value, str) else checked(value, float, where)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise FarfieldError(f"{where} is {value!r}; it must be a frame rate above 0. Correct the value.")
    return rate


def _annotation(entry: Any, where: str) -> _Annotation:
    about = checked(entry, dict, f"{where}: an annotation")
    where = f"{where}, annotation {about.get('id')}"
    results = [checked(each, dict, f"{where}: a result") for each in checked(about.get("result"), list, where)]
    read = [result for result in results if result.get("type") in TYPES]
    for result in read:
        checked(result.get("from_name"), str, f"{where}: from_name")
    return _Annotation(where, bool(about.get("was_cancelled")), bool(about.get("ground_truth")), read)


def _agreed(
    source: AnnotationSource, annotations: list[_Annotation], control: str | None, rate: float | None
) -> tuple[list[Row], str]:
    """Return a video's rows if its annotators agree; otherwise no rows, and the reason for leaving the video out.

    Args:
        source: videos, annotations and options of the collection.
        annotations: annotations of the video.
        control: name of the labelling control whose results count; None if the export has no results.
        rate: frame rate of the timelines; None to use the option `fps`.

    Returns:
        (rows, reason): `reason` is "" if the annotators agree. If they agree that the video has no label, `rows` is
        empty, too.
    """
    counted = [each for each in annotations if not each.cancelled]
    if not counted:
        return [], "its annotation was cancelled" if annotations else NO_LABEL
    counted = [each for each in counted if each.ground_truth] or counted
    answers = {tuple(_rows(source, each, control, rate)) for each in counted}
    if len(answers) > 1:
        return [], f"its {len(counted)} annotations differ; mark the right one as ground truth"
    return list(answers.pop()), ""


def _rows(source: AnnotationSource, annotation: _Annotation, control: str | None, rate: float | None) -> list[Row]:
    rows: list[Row] = []
    for result in annotation.results:
        if result["from_name"] != control:
            continue
        where = f"{annotation.where}: {result['type']} of {control}"
        value = checked(result.get("value"), dict, where)
        names = checked(value.get(result["type"]), list, where)
        label = join_labels([checked(name, str, where) for name in names], where)
        if not label:
            continue
        if result["type"] == "choices" and "ranges" not in value:
            rows.append((label, None, None))
            continue
        for each in checked(value.get("ranges"), list, f"{where}: ranges"):
            about = checked(each, dict, f"{where}: a range")
            first, last = (checked(about.get(name), float, f"{where}: {name}") for name in ("start", "end"))
            fps = rate or frame_rate(source, "labelstudio")
            start, end = frames_to_seconds(first, last, fps, f"{where}: the range")
            rows.append((label, start, end))
    return sorted(set(rows), key=lambda row: (row[1] or 0, row[2] or 0, row[0]))


def _paths_to_look_for(source: AnnotationSource, videos: list[str]) -> dict[str, list[str]]:
    """Return the paths to look for, for each video of the export, in order of preference.

    The first is the path in the export. Label Studio renames uploaded files: it replaces or removes some characters,
    and adds a prefix of 8 hexadecimal digits and a hyphen. If the file name in the export has this prefix, the rest
    of it is the stored name, and more paths follow:

    - the path of the video under the root that would get this stored name, if there is exactly one such video;
    - the stored name.
    """
    originals: dict[str, list[str]] = defaultdict(list)
    for files in source.files_by_stem.values():
        for file in files:
            originals[_stored_name(PurePosixPath(file).name)].append(file)
    wanted = {}
    for video in videos:
        plain = re.sub(r"^[0-9a-f]{8}-", "", PurePosixPath(video).name)
        renamed = originals.get(plain, [])
        without_prefix = [] if plain == PurePosixPath(video).name else [*renamed[: len(renamed) == 1], plain]
        wanted[video] = [video, *without_prefix]
    return wanted


def _stored_name(name: str) -> str:
    """Return the name under which Label Studio stores a file (Django's `get_valid_filename`), without its prefix."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _path_of_url(video: str) -> str:
    """Return the path in a task's URL; for a local-files URL, the path in its query."""
    if "://" not in video and not re.search(r"/data/(upload|local-files)/", video):
        return video
    url = urlsplit(video)
    local = parse_qs(url.query).get("d") if url.path.rstrip("/").endswith("data/local-files") else None
    return local[0] if local else unquote(url.path)
