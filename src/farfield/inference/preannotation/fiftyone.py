"""Write predictions for FiftyOne as a FiftyOneTemporalDetectionDataset: actions (labels.json), video paths (data.json).

The following is from FiftyOne's own code (`FiftyOneTemporalDetectionDatasetImporter` in
fiftyone/utils/data/importers.py and `FiftyOneTemporalDetectionSampleParser` in parsers.py, both of version 1.22.1; see
also `farfield.curation.formats.fiftyone`):

- labels.json maps the name of each video, without suffix, to its actions; a video without actions has an empty list.
- data.json maps the name of each video, with suffix, to its path. The importer removes the suffix from the name. It
  reads data.json only if called with data_path="data.json".
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farfield.inference.preannotation.annotated_video import AnnotatedVideo


def fiftyone_files(videos: Sequence[AnnotatedVideo], labels: Sequence[str], folder: Path) -> dict[str, str]:
    """Return the files to write, as {name: content}: labels.json and data.json.

    Args:
        videos: videos with their actions.
        labels: all classes of the network.
        folder: folder of the files; not used.
    """
    names = _names(videos)
    number = {label: place for place, label in enumerate(labels)}
    detections = {name: _detections(video, number) for name, video in zip(names, videos, strict=True)}
    data = {name + video.path.suffix: str(video.path) for name, video in zip(names, videos, strict=True)}
    content = {"classes": list(labels), "labels": detections}
    return {"labels.json": json.dumps(content, indent=1) + "\n", "data.json": json.dumps(data, indent=1) + "\n"}


def _names(videos: Sequence[AnnotatedVideo]) -> list[str]:
    """Return the path of each video, relative to the common folder of all videos and without suffix.

    Paths that differ only in their suffixes keep them.
    """
    if not videos:
        return []
    root = Path(os.path.commonpath([video.path.parent for video in videos]))
    paths = [video.path.relative_to(root) for video in videos]
    stems = [path.with_suffix("").as_posix() for path in paths]
    return [stem if stems.count(stem) == 1 else path.as_posix() for stem, path in zip(stems, paths, strict=True)]


def _detections(video: AnnotatedVideo, number: dict[str, int]) -> list[dict[str, Any]]:
    found = []
    for action in video.actions or []:
        first, end = video.frames(action)
        found += [
            {"label": number[label], "support": [first + 1, end], "confidence": round(action.score, 4)}
            for label in action.labels
        ]
    return found
