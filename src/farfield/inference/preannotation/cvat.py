"""Write predictions for CVAT: an XML file for each video ("CVAT 1.1"), and the labels of the project (labels.json).

The following is from CVAT's own code (`load_anno` in cvat/apps/dataset_manager/formats/cvat.py, `_import_track` and
`_import_attribute` in cvat/apps/dataset_manager/bindings.py; see also `farfield.curation.formats.cvat`):

- CVAT cannot label time spans, but it has tracks: objects with a first and a last frame. So an action is a track whose
  box is as large as the frame.
- CVAT reads only shapes with keyframe="1".
- A shape with outside="1" ends a track. It belongs to the frame after the track's last one. CVAT refuses frames after
  the video's end, so a track that lasts to the end of the video has no such shape.
- For an attribute that cannot change within a track, CVAT uses the value in the last shape that it reads. So each shape
  repeats the value.
- Labels must exist in the task or its project before the import. Users paste labels.json as the "Raw" labels of a
  project.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from farfield.inference.preannotation.annotated_video import Action, AnnotatedVideo
from farfield.inference.preannotation.xml_text import path_text, xml_text

PROBABILITY = "probability"
"""Name of the attribute that holds the score of an action."""


ATTRIBUTE: dict[str, Any] = {
    "name": PROBABILITY,
    "mutable": False,
    "input_type": "text",
    "default_value": "",
    "values": [""],
}


def cvat_files(videos: Sequence[AnnotatedVideo], labels: Sequence[str], folder: Path) -> dict[str, str]:
    """Return the files to write, as {name: content}: NAME.xml for each video, and labels.json.

    Args:
        videos: videos with their actions.
        labels: all classes of the network.
        folder: folder of the files; not used.
    """
    project = [{"name": label, "attributes": [ATTRIBUTE]} for label in labels]
    files = {f"{video.name}.xml": _document(video, labels) for video in videos}
    return files | {"labels.json": json.dumps(project, indent=1) + "\n"}


def _document(video: AnnotatedVideo, labels: Sequence[str]) -> str:
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    _add_task(ElementTree.SubElement(root, "meta"), video, labels)
    tracks = [(action, label) for action in video.actions or [] for label in action.labels]
    for number, (action, label) in enumerate(tracks):
        about = {"id": str(number), "label": label, "source": "auto"}
        _add_shapes(ElementTree.SubElement(root, "track", about), video, action)
    return xml_text(root)


def _add_task(meta: ElementTree.Element, video: AnnotatedVideo, labels: Sequence[str]) -> None:
    """Add the metadata of a task as in CVAT's exports. CVAT ignores it, but other readers of the format need it."""
    task = ElementTree.SubElement(meta, "task")
    frames = {"size": video.num_frames, "mode": "interpolation", "start_frame": 0, "stop_frame": video.num_frames - 1}
    for name, value in ({"name": path_text(video.path.stem)} | frames | {"frame_filter": ""}).items():
        ElementTree.SubElement(task, name).text = str(value)
    known = ElementTree.SubElement(task, "labels")
    for label in labels:
        node = ElementTree.SubElement(known, "label")
        ElementTree.SubElement(node, "name").text = label
        attribute = ElementTree.SubElement(ElementTree.SubElement(node, "attributes"), "attribute")
        for name in ("name", "mutable", "input_type", "default_value"):
            ElementTree.SubElement(attribute, name).text = str(ATTRIBUTE[name])
        ElementTree.SubElement(attribute, "values")
    size = ElementTree.SubElement(task, "original_size")
    for name, pixels in (("width", video.width), ("height", video.height)):
        ElementTree.SubElement(size, name).text = str(pixels)
    ElementTree.SubElement(task, "source").text = path_text(video.path.name)


def _add_shapes(track: ElementTree.Element, video: AnnotatedVideo, action: Action) -> None:
    """Add boxes to an action's first and last frames, and a box with outside="1" to the next frame, if there is one."""
    first, end = video.decoded_frames(action)
    for frame in sorted({first, end - 1, end} - {video.num_frames}):
        place = {"frame": str(frame), "outside": str(int(frame == end)), "occluded": "0", "keyframe": "1"}
        corners = {"xtl": "0.00", "ytl": "0.00", "xbr": f"{video.width:.2f}", "ybr": f"{video.height:.2f}"}
        box = ElementTree.SubElement(track, "box", place | corners | {"z_order": "0"})
        ElementTree.SubElement(box, "attribute", {"name": PROBABILITY}).text = f"{action.score:.4f}"
