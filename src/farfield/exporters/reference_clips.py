"""Decode clips of real videos, for the comparison and calibration of exported networks.

An exported network is compared with the original on these clips. For an 8-bit network, the clips are also used to
choose the value ranges of activations and to measure the loss of accuracy.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.clip_spec import ClipSpec
from farfield.curation.folder_scan import SkippedFiles
from farfield.curation.video_inputs import find_videos
from farfield.data.clips import video_views
from farfield.data.manifest import read_manifest
from farfield.data.targets import row_targets
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, VideoError
from farfield.progress import ProgressBar
from farfield.task import DEFAULT_TASK, Task
from farfield.video.decoder_names import Decoder

log = logging.getLogger("farfield")

Target = int | Float[np.ndarray, " classes"]


@dataclass(frozen=True)
class ReferenceVideo:
    """A video to take a clip from.

    Attributes:
        path: path of the video file.
        record: row of the manifest; for a video that is not from a manifest, a row that has only the path.
        target: for a single-label network the class index; for other networks a vector with 1 for each class of the
            video and 0 for the other classes. None if unknown.
    """

    path: Path
    record: VideoRecord
    target: Target | None = None


@dataclass(frozen=True)
class ReferenceClip:
    """The central clip of a video.

    Attributes:
        name: the video's path.
        frames: RGB frames (1 t h w c), resized and cropped to the network's test size.
        target: see `ReferenceVideo`.
    """

    name: str
    frames: UInt8[Tensor, "1 t h w c"]
    target: Target | None = None


def find_reference_videos(
    clips: Sequence[str],
    labels: Sequence[str],
    *,
    task: Task = DEFAULT_TASK,
    skipped: SkippedFiles | None = None,
) -> list[ReferenceVideo]:
    """Resolve files, folders, patterns and manifests to videos. Only videos from a manifest have a target.

    Args:
        clips: paths or patterns to resolve; a .csv file is a manifest.
        labels: class names of the network.
        task: task of the network.
        skipped: record to which skipped files are added.

    Raises:
        FarfieldError: if a folder has no videos, or if a manifest cannot be read, has classes that the network lacks,
            or has rows whose labels do not fit the task (see `row_targets`).
    """
    manifests = [given for given in clips if given.lower().endswith(".csv")]
    rest = [given for given in clips if given not in manifests]
    paths = find_videos(rest, skipped=skipped) if rest else []
    found = [ReferenceVideo(Path(path), VideoRecord(path, "")) for path in paths]
    for given in manifests:
        manifest = read_manifest(given)
        targets = row_targets(manifest, labels, task)
        each: list[Target] = targets.tolist() if targets.ndim == 1 else list(targets)
        found += [ReferenceVideo(manifest.path(i), manifest[i], target) for i, target in enumerate(each)]
    return found


def spread(count: int, at_most: int) -> list[int]:
    """Return at most `at_most` indices from 0 to count - 1, evenly spread."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, at_most))})


def decode_reference_clips(
    videos: Sequence[ReferenceVideo], spec: ClipSpec, *, decoder: Decoder = "pyav"
) -> list[ReferenceClip]:
    """Decode the central clip of each video. Videos that cannot be read are logged and left out.

    Raises:
        FarfieldError: if no video can be read.
    """
    clips = []
    for video in ProgressBar(videos, "clips", unit="video", delay=1, leave=False):
        try:
            frames = video_views(video.path, video.record, spec, num_clips=1, num_crops=1, decoder=decoder).frames
            clips.append(ReferenceClip(str(video.path), frames, video.target))
        except VideoError as error:
            log.warning("left out: %s", error)
    if videos and not clips:
        raise FarfieldError(
            "the exported network cannot be compared with the original, because none of the "
            f"{len(videos)} videos that were chosen from the given ones can be read. The log says why. Give other "
            "videos."
        )
    return clips
