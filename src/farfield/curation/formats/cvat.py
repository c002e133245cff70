"""Read CVAT's XML: tracks of a video from the format "CVAT for video 1.1", and tags from "CVAT for images 1.1".

    <annotations><version>1.1</version>
      <meta><task><id>5</id><start_frame>0</start_frame><frame_filter>step=2</frame_filter><source>a.mp4</source>...
      <track id="0" label="jump"><box frame="4" outside="0" keyframe="1" ...><attribute name="mood">glad</attribute>...

According to CVAT's own code (`dump_as_cvat_interpolation`, `dump_as_cvat_annotation` and `load` in
cvat/apps/dataset_manager/formats/cvat.py, cvat-ai/cvat@00598ab, and `abs_frame_id` and `meta_for_task` in
cvat/apps/dataset_manager/bindings.py, cvat-ai/cvat@da71018):

- Frame numbers are those of the video, from 0, even if a task takes every n-th frame (`frame_filter`) or starts later.
- In the export of a project, each subset has its own frame numbers, which continue from task to task. CVAT adds an
  offset to the frame numbers of a task (`_init_task_frame_offsets`). The offset is the sum of `start_frame` + step x
  `size` over the earlier tasks of the subset, where `size` is a task's number of frames. The offset is subtracted here.
- A shape with outside="1" marks the frame from which the object is no longer visible. The export also contains the
  shapes of frames between key frames.
- "CVAT for video" contains no tags (cvat-ai/cvat#7198 and #2923; the documentation says otherwise). "CVAT for
  images" holds the tags of each frame: <image id="4" name="frame_000004"><tag label="jump"/></image>.
- The file does not contain the frame rate. The export of a single job names no video, and is refused with an error.

Each frame has the time of this frame in the video; with the option `fps`, frames are converted at this rate instead.

A frame has the labels of its tags and of the tracks in it. If the option `label_column` names an attribute, the labels
are the values of this attribute. Consecutive frames with the same label form one segment, as do overlapping tracks with
the same label. Coordinates of boxes, polygons, points, cuboids, masks and skeletons are not read. Shapes that CVAT
stores for single images, instead of in a track, are ignored.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from farfield.curation.formats.annotation_source import AnnotationSource
from farfield.curation.formats.tool_export import find_videos, frame_clock, join_labels
from farfield.curation.formats.xml_files import read_xml
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest

NEEDED = "Give annotations.xml of a CVAT export, unpacked, or a folder of such files."

Interval = tuple[int, int]
"""First frame, and the frame after the last, counted from 0."""


@dataclass
class _Video:
    """The video of a CVAT task, and its labelled frames. All frame numbers are those of the video, from 0.

    Attributes:
        name: file name of the video.
        step: n if the task takes every n-th frame of the video; 1 if it takes every frame.
        subset: subset of the project to which the task belongs; "" if none.
        offset: number that the export of a project adds to the task's frame numbers; 0 in other exports.
        end: frame number of the task's last frame, plus `step`. In the export of a project, a frame number in the file,
            minus `offset`, must be at most `end`. In other exports, `end` is infinite.
        frames: for each label, the ranges of frames with this label, as (first frame, frame after the last).
    """

    name: str
    step: int
    subset: str
    offset: int = 0
    end: float = math.inf
    frames: dict[str, list[Interval]] = field(default_factory=lambda: defaultdict(list))


def read_cvat(source: AnnotationSource) -> Iterator[VideoRecord]:
    """Read CVAT's XML file, or all XML files in a folder; yield a row for each segment of a label.

    Labels are those of the tracks and tags, or the values of the attribute that `label_column` names.

    Raises:
        FarfieldError: for a file in another format, a file that names no video, or an unknown attribute.
    """
    files = sorted(source.annotations.rglob("*.xml")) if source.annotations.is_dir() else [source.annotations]
    if not files:
        raise FarfieldError(f"there is no XML file in {source.annotations}. {NEEDED}")
    attributes: set[str] = set()
    videos: dict[str, list[_Video]] = defaultdict(list)
    for file in files:
        for video in _read_file(file, source.label_column, attributes):
            videos[video.name].append(video)
    if source.label_column is not None and source.label_column not in attributes:
        raise FarfieldError(
            f"label_column is {source.label_column!r}, but {source.annotations} has no attribute of this name. "
            f"{nearest(source.label_column, sorted(attributes))}"
        )
    subsets = sorted({video.subset for tasks in videos.values() for video in tasks if video.subset})
    if source.subset is not None:
        if source.subset not in subsets:
            raise FarfieldError(
                f"{source.annotations} has no subset {source.subset!r}. {nearest(source.subset, subsets)}"
            )
        videos = {name: [video for video in tasks if video.subset == source.subset] for name, tasks in videos.items()}
    for name, path in find_videos(source, {name: [name] for name, tasks in videos.items() if tasks}).items():
        tasks = videos[name]
        if len(tasks) > 1:  # CVAT names videos without their folders
            source.left_out.append(
                (name, f"{len(tasks)} tasks have a video of this name; index the tasks one at a time")
            )
            continue
        segments = sorted(segment for video in tasks for segment in _segments(video))
        if not segments:
            yield from source.without_label(name, path)
            continue
        seconds = frame_clock(source, path)
        for first, end, label in segments:
            yield VideoRecord(path, label, seconds(first), seconds(end))


def _segments(video: _Video) -> Iterator[tuple[int, int, str]]:
    """Merge adjacent or overlapping frame ranges of each label; yield (first frame, frame after the last, label)."""
    for label, intervals in video.frames.items():
        merged: list[Interval] = []
        for first, end in sorted(intervals):
            if merged and first <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((first, end))
        yield from ((first, end, label) for first, end in merged)


def _read_file(path: Path, attribute: str | None, attributes: set[str]) -> list[_Video]:
    """Return the videos of a CVAT file's tasks, with the labels of their frames.

    Args:
        path: file to read.
        attribute: name of the CVAT attribute whose values are the labels; None to use the tracks' and tags' own labels.
        attributes: set to which this function adds the names of all CVAT attributes that the tracks and tags have.
    """
    root = _parse(path)
    videos = _tasks(root, path)
    for node in [*root.iterfind("track"), *root.iterfind("image")]:
        video = _task_of(node, videos, path)
        if node.tag == "track":
            _add_track(node, video, attribute, attributes, path)
        else:
            _add_image(node, video, attribute, attributes, path)
    return list(videos.values())


def _parse(path: Path) -> ElementTree.Element:
    root = read_xml(path, "CVAT", NEEDED)
    if root.tag != "annotations" or root.find("meta") is None:
        raise FarfieldError(f"{path} is not CVAT's XML: it has no <annotations> with <meta>. {NEEDED}")
    return root


def _tasks(root: ElementTree.Element, path: Path) -> dict[str, _Video]:
    """Return the video of each task, by task id. Tasks of images have no video and are omitted.

    Only the export of a project can have several tasks.
    """
    project = root.findall("meta/project/tasks/task")
    videos: dict[str, _Video] = {}
    offset, last_subset = 0, None
    for task in project or [*root.iterfind("meta/task"), *root.iterfind("meta/job")]:
        name = task.findtext("source") or root.findtext("meta/source") or ""
        step = re.search(r"step\s*=\s*([1-9]\d*)", task.findtext("frame_filter") or "")
        video = _Video(name.strip(), int(step[1]) if step else 1, (task.findtext("subset") or "").strip())
        if project:
            where = f"{path}, task {task.findtext('id')}"
            offset = offset if video.subset == last_subset else 0
            start, size = (_frame(task.findtext(key), f"{where}, {key}") for key in ("start_frame", "size"))
            video.offset, video.end = offset, start + video.step * size
            offset, last_subset = offset + start + video.step * size, video.subset
        if video.name:
            videos[task.findtext("id", "")] = video
    if not videos:
        raise FarfieldError(
            f"{path} names no video: it has no <source>. It may be the export of a job or of images. Export the "
            "task of a video."
        )
    return videos


def _task_of(node: ElementTree.Element, videos: dict[str, _Video], path: Path) -> _Video:
    if len(videos) == 1 and "task_id" not in node.attrib:
        return next(iter(videos.values()))
    task = node.get("task_id", "")
    if task not in videos:
        raise FarfieldError(
            f"{path}, {node.tag} {node.get('id')}: task_id is {task!r}; it must be the id of a task with a video. "
            "Make a separate export of each task that has a video."
        )
    return videos[task]


def _add_track(
    track: ElementTree.Element, video: _Video, attribute: str | None, attributes: set[str], path: Path
) -> None:
    """Add to `video.frames` the frames in which a track's object is visible.

    A shape applies from its frame to the frame before the track's next shape. The last shape applies to one frame of
    the task, which stands for `video.step` frames of the video. A shape with outside="1" adds no frames.
    """
    where = f"{path}, track {track.get('id')}"
    shapes = sorted(((_frame(shape.get("frame"), where, video), shape) for shape in track), key=lambda each: each[0])
    stops = [next_frame for (_, _), (next_frame, _) in pairwise(shapes)]
    stops += [frame + video.step for frame, _ in shapes[-1:]]
    for (first, shape), stop in zip(shapes, stops, strict=True):
        label = _label(shape, track.get("label"), attribute, attributes, where)
        if label and stop > first and not _is_outside(shape):
            video.frames[label].append((first, stop))


def _is_outside(shape: ElementTree.Element) -> bool:
    """Return whether a shape has outside="1", which means that the object is not visible.

    A skeleton has this attribute in its points: it is outside if all of them are.
    """
    parts = [shape] if "outside" in shape.attrib else [part for part in shape if part.tag != "attribute"]
    return bool(parts) and all(part.get("outside") == "1" for part in parts)


def _add_image(
    image: ElementTree.Element, video: _Video, attribute: str | None, attributes: set[str], path: Path
) -> None:
    """Add an image's frame to `video.frames`, under the label of each of the image's tags.

    The frame of a task stands for `video.step` frames of the video.
    """
    where = f"{path}, image {image.get('name')}"
    tags = image.findall("tag")
    if not tags:
        return
    named = re.search(r"(\d+)$", PurePosixPath(image.get("name", "")).stem)
    first = _frame(named[1] if named else image.get("id"), where, video)
    for tag in tags:
        if label := _label(tag, tag.get("label"), attribute, attributes, where):
            video.frames[label].append((first, first + video.step))


def _label(
    node: ElementTree.Element, label: str | None, attribute: str | None, attributes: set[str], where: str
) -> str:
    """Return the label of a shape or tag.

    Args:
        node: XML element of the shape or tag.
        label: label of the track or tag. This is the result if `attribute` is None.
        attribute: name of the CVAT attribute whose value is the result; if the element lacks it, the result is "".
        attributes: set to which this function adds the names of the element's attributes.
        where: name of the element in error messages.
    """
    values = {each.get("name", ""): (each.text or "").strip() for each in node.iterfind("attribute")}
    attributes.update(values)
    if attribute is not None:
        value = values.get(attribute, "")
        return "" if value == "__undefined__" else join_labels([value], where)
    if not label:
        raise FarfieldError(f"{where} has no label. Every track and tag needs a label: export the task again.")
    return join_labels([label], where)


def _frame(text: str | None, where: str, video: _Video | None = None) -> int:
    """Parse a frame number; if `video` is given, subtract `video.offset` and check that the task has this frame."""
    if text is None or not text.isdecimal():
        raise FarfieldError(f"{where}: the frame number is {text!r}; it must be a whole number. Export the task again.")
    frame = int(text) - (video.offset if video else 0)
    if video and not 0 <= frame <= video.end:
        raise FarfieldError(
            f"{where}: frame {text} is outside its task, which has the frames {video.offset} to "
            f"{video.offset + video.end:g} in the export of the project. Export each task by itself: its frames are "
            "then counted from the start of the video."
        )
    return frame
