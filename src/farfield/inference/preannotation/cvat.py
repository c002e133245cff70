"""CVAT: an XML file for each video ("CVAT 1.1"), and the labels of their project (labels.json).

Settled by CVAT's own code (`load_anno` in cvat/apps/dataset_manager/formats/cvat.py, `_import_track` and
`_import_attribute` in cvat/apps/dataset_manager/bindings.py; see also `farfield.curation.formats.cvat`):

- CVAT has no label of a time. A track is an object that is seen from one frame to another: here a box as large as the
  frame, whose first and last frames are the action's.
- Only shapes with keyframe="1" are read. Frames that the task does not have are refused, so that a track that lasts to
  the video's end has no shape that ends it.
- Attributes that do not change are taken from the last shape that is read: each shape has them.
- Labels must exist in the task or its project before; the "Raw" labels of a project are the content of labels.json.
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


def cvat_files(videos: Sequence[AnnotatedVideo], labels: Sequence[str], folder: Path) -> dict[str, str]:
    """Return the content of NAME.xml of each video, and of labels.json.

    Args:
        videos: videos with their actions.
        labels: all classes of the network.
        folder: where the files will be; not used.
    """
    attribute = {"name": PROBABILITY, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    project: list[dict[str, Any]] = [{"name": label, "attributes": [attribute]} for label in labels]
    files = {f"{video.name}.xml": _document(video) for video in videos}
    return files | {"labels.json": json.dumps(project, indent=1) + "\n"}


def _document(video: AnnotatedVideo) -> str:
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    about = {"name": video.path.stem, "size": video.num_frames, "mode": "interpolation"}
    about |= {"start_frame": 0, "stop_frame": video.num_frames - 1, "frame_filter": "", "source": video.path.name}
    for name, value in about.items():
        ElementTree.SubElement(task, name).text = path_text(str(value))
    tracks = [(action, label) for action in video.actions or [] for label in action.labels]
    for number, (action, label) in enumerate(tracks):
        about = {"id": str(number), "label": label, "source": "auto"}
        _add_shapes(ElementTree.SubElement(root, "track", about), video, action)
    return xml_text(root)


def _add_shapes(track: ElementTree.Element, video: AnnotatedVideo, action: Action) -> None:
    """Add a box for the first frame, one for the last, and one that ends the track after it."""
    first, end = video.frames(action)
    for frame in sorted({first, end - 1, end} - {video.num_frames}):
        place = {"frame": str(frame), "outside": str(int(frame == end)), "occluded": "0", "keyframe": "1"}
        corners = {"xtl": "0.00", "ytl": "0.00", "xbr": f"{video.width:.2f}", "ybr": f"{video.height:.2f}"}
        box = ElementTree.SubElement(track, "box", place | corners | {"z_order": "0"})
        ElementTree.SubElement(box, "attribute", {"name": PROBABILITY}).text = f"{action.score:.4f}"
