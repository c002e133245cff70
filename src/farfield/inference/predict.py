"""Ranked labels for video files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from farfield.data.clips import video_views
from farfield.data.decode import VIDEO_SUFFIXES
from farfield.data.manifest import VideoRecord
from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.evaluation import average_views
from farfield.models import ActionNet


@dataclass(frozen=True)
class RankedLabel:
    """A class and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a network makes of one video.

    Attributes:
        path: the file.
        ranking: the most probable classes, best first.
        start_seconds: the first frame that was looked at.
        end_seconds: the last one.
    """

    path: str
    ranking: list[RankedLabel]
    start_seconds: float
    end_seconds: float


@torch.inference_mode()
def predict(
    path: str | Path,
    model: ActionNet,
    *,
    top_k: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    hop: int | None = None,
    view_batch_size: int = 8,
) -> Prediction:
    """Recognises the action in one video: views spread over it, their probabilities averaged.

    Args:
        path: a video file.
        model: from `load_model` or `build_model`, on the device that it is to run on. It is put in evaluation mode.
        top_k: how many classes to return.
        num_clips: clips spread over the video; None for the model's own test setting.
        num_crops: crops of each clip; None for the model's own test setting.
        hop: in place of num_clips, clips that start every `hop` frames and together cover the whole video.
        view_batch_size: views that go through the network at once; bounds memory.

    Raises:
        VideoError: where the file cannot be decoded, or is too short and may not be looped.
        FarfieldError: for a `top_k` below 1.
    """
    if top_k < 1:
        raise FarfieldError(f"top_k is {top_k}; it must be at least 1.")
    model.eval()
    spec = model.clip
    record = VideoRecord(path=str(path), label="")
    changes = {"num_clips": num_clips, "num_crops": num_crops}
    spec = spec.replace(**{name: count for name, count in changes.items() if count is not None})  # checks them
    clip = video_views(Path(path), record, spec, num_clips=spec.num_clips, num_crops=spec.num_crops, hop=hop)
    device = next(model.parameters()).device
    logits = [model(network_input(views[None].to(device), spec)) for views in clip.frames.split(view_batch_size)]
    probabilities = average_views(torch.cat(logits), 1)[0]
    best = probabilities.topk(min(top_k, len(model.labels)))
    ranking = [RankedLabel(model.labels[i], float(p)) for i, p in zip(best.indices.tolist(), best.values, strict=True)]
    return Prediction(str(path), ranking, float(clip.times_seconds.min()), float(clip.times_seconds.max()))


def find_videos(inputs: Sequence[str]) -> list[str]:
    """Turns files, folders and glob patterns into a list of files, in order and each once.

    Folders are searched to their depths for files with a video's suffix. A file that does not exist stays in the list:
    it fails by name when it is opened, and costs the others nothing.

    Raises:
        FarfieldError: for a folder without videos, or a pattern that matches nothing.
    """
    found: dict[str, None] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            files = sorted(str(f) for f in path.rglob("*") if f.suffix.lower() in VIDEO_SUFFIXES and f.is_file())
            if not files:
                raise FarfieldError(f"the folder {given} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))}).")
        elif not path.exists() and glob.has_magic(given):
            files = sorted(f for f in glob.glob(given, recursive=True) if Path(f).is_file())
            if not files:
                raise FarfieldError(f"no file matches the pattern {given!r}.")
        else:
            files = [given]
        found |= dict.fromkeys(files)
    return list(found)
