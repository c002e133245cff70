"""Write predictions for Label Studio: tasks (tasks.json), and the labelling configuration of the project (config.xml).

The following is from Label Studio's documentation and code (see also `farfield.curation.formats.labelstudio`):

- Results in a task's `predictions` have the same format as in its annotations. The Data Manager can sort tasks by the
  `score` of a prediction.
- `frameRate` of the tag Video can be read from a task's data with `$fps` (`afterCreate` in Video.js parses it). So
  frames are counted at each video's own rate.
- The URL `/data/local-files/?d=PATH` serves a file only if it is in a folder that is a local storage of the project.
  PATH is relative to the folder in the setting LOCAL_FILES_DOCUMENT_ROOT. This folder itself cannot be a local storage.
  So PATH is written relative to the parent of the videos' common folder: the user sets LOCAL_FILES_DOCUMENT_ROOT to the
  parent, and the common folder can be the local storage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from farfield.inference.preannotation.annotated_video import AnnotatedVideo
from farfield.inference.preannotation.xml_text import xml_text

TIMELINE, WHOLE, VIDEO = "actions", "labels", "video"
"""Names of tags in config.xml: TimelineLabels (actions), Choices (labels of the whole video) and Video (player)."""


def labelstudio_files(videos: Sequence[AnnotatedVideo], labels: Sequence[str], folder: Path) -> dict[str, str]:
    """Return the files to write, as {name: content}: tasks.json and config.xml.

    Args:
        videos: predicted videos. tasks.json has the `actions` of each video, with their first and last frames. If
            `actions` is None, it has the `labels` of the video instead.
        labels: all classes of the network.
        folder: output folder. It is not used here, only by the functions of other tools.
    """
    root = _documents_root(videos)
    tasks = [_task(video, root) for video in videos]
    return {"tasks.json": json.dumps(tasks, indent=1) + "\n", "config.xml": _config(videos, labels)}


def _documents_root(videos: Sequence[AnnotatedVideo]) -> Path:
    """Return the folder to set as LOCAL_FILES_DOCUMENT_ROOT: the parent of the videos' common folder."""
    return Path(os.path.commonpath([video.path.parent for video in videos])).parent if videos else Path("/")


def _task(video: AnnotatedVideo, root: Path) -> dict[str, Any]:
    place = quote(os.fsencode(video.path.relative_to(root).as_posix()))
    results = _results(video)
    prediction: dict[str, Any] = {"model_version": video.model, "result": results}
    if results:
        prediction["score"] = sum(each["score"] for each in results) / len(results)
    data = {VIDEO: f"/data/local-files/?d={place}", "fps": round(video.fps, 6)}
    return {"data": data, "predictions": [prediction]}


def _results(video: AnnotatedVideo) -> list[dict[str, Any]]:
    if video.actions is None:
        chosen = [label for label, _ in video.labels]
        score = min((score for _, score in video.labels), default=0.0)
        return [_result(1, WHOLE, "choices", score, {"choices": chosen})] if chosen else []
    results = []
    for number, action in enumerate(video.actions, start=1):
        first, end = video.frames(action)
        value = {"ranges": [{"start": first + 1, "end": end}], "timelinelabels": list(action.labels)}
        results.append(_result(number, TIMELINE, "timelinelabels", action.score, value))
    return results


def _result(number: int, control: str, kind: str, score: float, value: dict[str, Any]) -> dict[str, Any]:
    about = {"id": f"farfield{number}", "from_name": control, "to_name": VIDEO, "type": kind, "origin": "prediction"}
    return about | {"score": round(score, 4), "value": value}


def _config(videos: Sequence[AnnotatedVideo], labels: Sequence[str]) -> str:
    view = ElementTree.Element("View")
    if any(video.actions is None for video in videos):
        several = any(video.task != "single_label" for video in videos)
        about = {"name": WHOLE, "toName": VIDEO, "choice": "multiple" if several else "single"}
        choices = ElementTree.SubElement(view, "Choices", about)
        for label in labels:
            ElementTree.SubElement(choices, "Choice", {"value": label})
    if any(video.actions is not None for video in videos) or not videos:
        timeline = ElementTree.SubElement(view, "TimelineLabels", {"name": TIMELINE, "toName": VIDEO})
        for label in labels:
            ElementTree.SubElement(timeline, "Label", {"value": label})
    ElementTree.SubElement(view, "Video", {"name": VIDEO, "value": f"${VIDEO}", "frameRate": "$fps"})
    return xml_text(view, declaration=False)
