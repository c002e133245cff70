"""Ranked labels for video files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from farfield.clip_spec import ClipSpec
from farfield.data.clips import video_views
from farfield.data.manifest import VideoRecord
from farfield.errors import FarfieldError
from farfield.inference.sliding_windows import sliding_windows
from farfield.inference.timeline import recognise
from farfield.scoring.aggregation import average_views
from farfield.scoring.load import InferenceModel
from farfield.scoring.score_views import score_views


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
        end_seconds: the last one; of clips that cover the whole video, when it is no longer shown.
        features: what the classifier sees, averaged over the views; None where not asked for.
    """

    path: str
    ranking: list[RankedLabel]
    start_seconds: float
    end_seconds: float
    features: Float[np.ndarray, " c"] | None = None


def predict(
    path: str | Path,
    model: InferenceModel,
    *,
    top_k: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    hop: int | None = None,
    view_batch_size: int = 8,
    features: bool = False,
) -> Prediction:
    """Recognises the action in one video: views spread over it, their probabilities averaged.

    Args:
        path: a video file.
        model: from `load_model`, `load_network` or `build_model`, on the device that it is to run on. It is put in
            evaluation mode.
        top_k: how many classes to return.
        num_clips: clips spread over the video; None for the model's own test setting.
        num_crops: crops of each clip; None for the model's own test setting.
        hop: in place of num_clips, clips that start every `hop` frames and together cover the whole video.
        view_batch_size: views that go through the network at once; bounds memory.
        features: keep what the classifier sees, averaged over the views, too.

    Raises:
        VideoError: where the file cannot be decoded, or is too short and may not be looped.
        FarfieldError: for a `top_k` below 1.
    """
    if top_k < 1:
        raise FarfieldError(f"top_k is {top_k}; it must be at least 1.")
    spec = model.clip
    record = VideoRecord(path=str(path), label="")
    changes = {"num_clips": num_clips, "num_crops": num_crops}
    spec = spec.replace(**{name: count for name, count in changes.items() if count is not None})  # checks them
    if hop is not None:
        return _predict_densely(path, model, spec, hop, top_k=top_k, view_batch_size=view_batch_size, features=features)
    clip = video_views(Path(path), record, spec, num_clips=spec.num_clips, num_crops=spec.num_crops)
    scored = score_views(model, clip.frames, batch_size=view_batch_size, features=features)
    vector = None if scored.features is None else scored.features.mean(0).cpu().numpy()
    probabilities = average_views(scored.logits, 1)[0].cpu().numpy()
    ranking, times = rank(probabilities, model.labels, top_k), clip.times_seconds
    return Prediction(str(path), ranking, float(times.min()), float(times.max()), vector)


def _predict_densely(
    path: str | Path,
    model: InferenceModel,
    spec: ClipSpec,
    hop: int,
    *,
    top_k: int,
    view_batch_size: int,
    features: bool,
) -> Prediction:
    """Of clips that follow each other by `hop` frames, however many they are; few are held at a time."""
    if hop < 1 or spec.sampling == "segments":
        raise FarfieldError(f"hop is {hop}; it must be at least 1, and the network's sampling 'clip', not 'segments'.")
    with sliding_windows(path, spec, hop_frames=hop, num_crops=spec.num_crops) as windows:
        found = list(recognise(windows, model, view_batch_size=view_batch_size, features=features))
        start, end = float(windows.starts[0]), float(windows.ends[-1])
    ranking = rank(np.mean([each.probabilities for each in found], axis=0), model.labels, top_k)
    vector = np.mean([each.features for each in found if each.features is not None], axis=0) if features else None
    return Prediction(str(path), ranking, start, end, vector)


def rank(probabilities: Float[np.ndarray, " classes"], labels: list[str], top_k: int) -> list[RankedLabel]:
    """The most probable classes, best first."""
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [RankedLabel(labels[i], float(probabilities[i])) for i in best]
