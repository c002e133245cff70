"""Predict the actions in one video."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farfield.argument_types import checked_arguments
from farfield.data.clips import views_of
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError
from farfield.inference.prediction_schema import Prediction, any_reaches_threshold, rank, rank_heads
from farfield.memory_errors import out_of_memory_as_ours
from farfield.plain_types import make_fields_plain
from farfield.progress import ProgressBar, bar_to, progress_bars
from farfield.scoring.aggregation import aggregate_views, view_probabilities
from farfield.scoring.load import InferenceModel, load_model
from farfield.scoring.score_views import score_views
from farfield.timelines.options import TimelineOptions
from farfield.timelines.sliding_windows import windows_of
from farfield.timelines.timeline import make_timeline
from farfield.timelines.window_scores import score_windows
from farfield.video.decoder_names import Decoder
from farfield.video.decoders import Video, open_video
from farfield.video.frame_rate import duration_seconds

OnProgress = Callable[[int, int], object]
"""Callback for progress. Its arguments are the number of windows or views scored so far, and their total number."""


@dataclass(frozen=True)
class PredictOptions:
    """Options for predicting a video.

    Args:
        top_k: number of classes in the ranking. In a multilabel task, the ranking also has all other classes that reach
            their thresholds.
        num_clips: clips spread over the video; None for the network's test setting.
        num_crops: crops of each clip; None for the network's test setting (with a timeline: for 1 crop).
        hop: number of frames between the starts of two successive clips, counted at the network's `target_fps` if it
            has one. If hop is given, clips run from the start to the end of the video (or of the part to predict), and
            num_clips must be None.
        timeline: options of the timeline, for which windows slide over the video, and actions are found as segments
            with a start and an end. None makes no timeline.
        features: whether to also return the features before the classifier.
        view_batch_size: views per forward pass; bounds memory. Predictions do not depend on it, except for rounding.
        decoder: "pyav" or "decord".
        fps: frame rate of each video that is a folder of numbered pictures; None if no video is such a folder.

    Raises:
        FarfieldError: if fps is not positive and finite, or another number is below 1; if hop and num_clips are both
            given; or if hop or num_clips is given with a timeline.
    """

    top_k: int = 5
    num_clips: int | None = None
    num_crops: int | None = None
    hop: int | None = None
    timeline: TimelineOptions | None = None
    features: bool = False
    view_batch_size: int = 8
    decoder: Decoder = "pyav"
    fps: float | None = None

    def __post_init__(self) -> None:
        make_fields_plain(self)
        for name in ("top_k", "num_clips", "num_crops", "hop", "view_batch_size"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise FarfieldError(f"{name} is {given}; it must be at least 1.")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise FarfieldError(f"fps is {self.fps:g}; it must be a positive number of frames per second.")
        if self.hop is not None and self.num_clips is not None:
            raise FarfieldError("hop and num_clips are both given, but each of them chooses the clips. Give only one.")
        if self.timeline is not None:
            for name in ("num_clips", "hop"):
                if getattr(self, name) is not None:
                    raise FarfieldError(
                        f"{name} cannot be combined with a timeline. Leave {name} out. To set the distance between a "
                        "timeline's windows, give hop_seconds."
                    )

    def settings(self) -> dict[str, Any]:
        """Return the options that affect predictions, in plain types, for the settings file of a results folder."""
        views = {name: getattr(self, name) for name in ("num_clips", "num_crops", "hop")}
        given = {name: value for name, value in views.items() if value is not None}
        content: dict[str, Any] = {
            "top_k": self.top_k,
            "views": given if self.timeline is None else {},
            "windows": None,
            "features": self.features,
        }
        if self.timeline is not None:
            content["windows"] = given | self.timeline.settings()
        if self.decoder != "pyav":
            content["decoder"] = self.decoder
        if self.fps is not None:
            content["fps"] = self.fps
        return content


@checked_arguments
def predict(
    video: str | Path,
    model: InferenceModel | str | Path,
    *,
    top_k: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    hop: int | None = None,
    timeline: bool | TimelineOptions = False,
    features: bool = False,
    view_batch_size: int = 8,
    decoder: Decoder = "pyav",
    fps: float | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    progress: bool = True,
) -> Prediction:
    """Predict the actions in a video: its most probable classes and, on request, a timeline of its actions.

    For the ranking, class probabilities are averaged:

    - with a timeline, over time
    - with `hop`, over all clips
    - otherwise, over views that are spread over the video, as in `farfield test`

    If the network's `clip.views_aggregation` is "max", the maximum is taken instead of the average in all three cases.

    Args:
        video: a video file, or a folder of numbered pictures.
        model: a network from `load_model` or `build_model`, on the device to run on, or a path that `load_model` reads.
            The network is put in evaluation mode.
        top_k: number of classes in the ranking. In a multilabel task, the ranking also has all other classes that reach
            their thresholds.
        num_clips: clips spread over the video; None for the network's test setting.
        num_crops: crops of each clip; None for the network's test setting (with a timeline: for 1 crop).
        hop: number of frames between the starts of two successive clips, counted at the network's `target_fps` if it
            has one. If hop is given, clips run from the start to the end of the video (or of the part to predict), and
            num_clips must be None.
        timeline: True to slide windows over the video and return segments; `TimelineOptions` to set the options of
            windows and segments; False for no timeline.
        features: whether to also return the features before the classifier.
        view_batch_size: views per forward pass; bounds memory.
        decoder: "pyav" or "decord".
        fps: frame rate of a folder of pictures, required for such a folder; ignored for a file.
        start_seconds: start of the part of the video to predict (for example, a segment in a manifest); None for the
            video's start.
        end_seconds: end of that part, excluded; None for the video's end.
        progress: show a progress bar while windows or views are scored.

    Raises:
        VideoError: if the file cannot be decoded, has no frame from start_seconds to end_seconds, or is shorter than a
            clip and the network's `short_clip` is "refuse".
        FarfieldError: if an option is out of range or incompatible with another (see `PredictOptions`) or with the
            network, or the model cannot be loaded.
    """
    if not isinstance(timeline, bool | TimelineOptions):
        raise FarfieldError(f"timeline is {timeline!r}; give True, False, or farfield.TimelineOptions(...).")
    wanted = {True: TimelineOptions(), False: None}[timeline] if isinstance(timeline, bool) else timeline
    options = PredictOptions(top_k, num_clips, num_crops, hop, wanted, features, view_batch_size, decoder, fps)
    loaded = load_model(model) if isinstance(model, str | Path) else model
    part = "view" if wanted is None and hop is None else "window"
    with progress_bars(progress), ProgressBar(desc=f"{part}s", unit=part, leave=False, delay=1) as bar:
        return predict_file(
            video,
            loaded,
            options,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            on_progress=lambda done, total: bar_to(bar, done, total),
        )


@out_of_memory_as_ours(
    "Give a smaller view_batch_size.", on_gpu="Give a smaller view_batch_size, or run on the CPU: device cpu."
)
def predict_file(
    path: str | Path,
    model: InferenceModel,
    options: PredictOptions,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    on_progress: OnProgress | None = None,
) -> Prediction:
    """Predict the actions in a video file, or in the part of it from start_seconds to end_seconds.

    `path` is a video file or a folder of pictures. The other arguments are those of `predict_video`.

    Raises:
        FarfieldError, VideoError: in the same cases as `predict`.
    """
    if not (start_seconds or 0) >= 0 or (end_seconds is not None and not end_seconds > (start_seconds or 0)):
        raise FarfieldError(
            f"start_seconds is {start_seconds} and end_seconds is {end_seconds}; the start must be at least 0, and the "
            "end later than the start. Correct them, or leave them out."
        )
    spec = model.clip
    with open_video(
        path, options.decoder, deinterlace=spec.deinterlace, tone_map=spec.tone_map, fps=options.fps
    ) as video:
        return predict_video(
            video,
            path,
            model,
            options,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            on_progress=on_progress,
        )


def predict_video(
    video: Video,
    path: str | Path,
    model: InferenceModel,
    options: PredictOptions,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    on_progress: OnProgress | None = None,
) -> Prediction:
    """Predict the actions in an open video, or in the part of it from start_seconds to end_seconds.

    Args:
        video: an open video from `open_video`.
        path: file of the video, for messages and the result.
        model: as in `predict`.
        options: options of the prediction.
        start_seconds: as in `predict`.
        end_seconds: as in `predict`.
        on_progress: called with (number done, total number) while windows or views are scored. With a timeline or hop,
            windows are counted. Otherwise views are counted, and the first call, with 0 done, is before any frame is
            decoded.

    Raises:
        FarfieldError, VideoError: in the same cases as `predict`.
    """
    record = VideoRecord(str(path), "", start_seconds=start_seconds, end_seconds=end_seconds)
    if options.timeline is not None:
        prediction = _with_timeline(video, record, model, options, on_progress)
    elif options.hop is not None:
        prediction = _densely(video, record, model, options, options.hop, on_progress)
    else:
        prediction = _from_views(video, record, model, options, on_progress)
    return replace(
        prediction,
        task=model.task,
        model=model.config.get("backbone"),
        duration_seconds=duration_seconds(video.times),
        requested_start_seconds=start_seconds,
        requested_end_seconds=end_seconds,
    )


def _from_views(
    video: Video, record: VideoRecord, model: InferenceModel, options: PredictOptions, on_progress: OnProgress | None
) -> Prediction:
    """Predict by aggregating over the crops of clips that are spread over the record's video or segment."""
    changes = {"num_clips": options.num_clips, "num_crops": options.num_crops}
    spec = model.clip.replace(**{name: count for name, count in changes.items() if count is not None})
    if on_progress is not None:
        on_progress(0, spec.num_clips * spec.num_crops)
    clip = views_of(video, Path(record.path), record, spec, num_clips=spec.num_clips, num_crops=spec.num_crops)
    scores = score_views(
        model,
        clip.frames,
        batch_size=options.view_batch_size,
        features=options.features,
        on_progress=on_progress,
    )
    of_views = view_probabilities(scores.logits, 1, model.task)
    probabilities = aggregate_views(of_views, method=spec.views_aggregation)[0].cpu().numpy()
    start, end = float(clip.times_seconds.min()), float(clip.times_seconds.max())
    return Prediction(
        record.path,
        rank(probabilities, model, options.top_k, as_in_test=True),
        heads=rank_heads(probabilities, model, options.top_k),
        reaches_threshold=any_reaches_threshold(probabilities, model),
        start_seconds=start,
        end_seconds=end,
        features=None if scores.features is None else scores.features.mean(0, keepdim=True).cpu().numpy(),
        feature_seconds=None if scores.features is None else np.array([[start, end]]),
    )


def _densely(
    video: Video,
    record: VideoRecord,
    model: InferenceModel,
    options: PredictOptions,
    hop: int,
    on_progress: OnProgress | None,
) -> Prediction:
    """Predict by aggregating over clips that start every `hop` frames. Only a few clips are in memory at a time."""
    spec = model.clip
    if spec.sampling == "segments":
        raise FarfieldError(
            f"hop is {hop}, but this network samples each clip's frames from the whole video. Leave hop out."
        )
    num_crops = spec.num_crops if options.num_crops is None else options.num_crops
    windows = windows_of(
        video,
        record.path,
        spec,
        hop_frames=hop,
        num_crops=num_crops,
        start_seconds=record.start_seconds,
        end_seconds=record.end_seconds,
    )
    scores = []
    for score in score_windows(windows, model, options.view_batch_size, options.features):
        scores.append(score)
        if on_progress is not None:
            on_progress(len(scores), len(windows))
    start, end = float(windows.starts[0]), float(windows.ends[-1])
    of_windows = torch.from_numpy(np.stack([each.probabilities for each in scores]))
    probabilities = aggregate_views(of_windows, method=spec.views_aggregation).numpy()
    vectors = [each.features for each in scores if each.features is not None]
    return Prediction(
        record.path,
        rank(probabilities, model, options.top_k),
        heads=rank_heads(probabilities, model, options.top_k),
        start_seconds=start,
        end_seconds=end,
        features=np.mean(vectors, axis=0)[None] if vectors else None,
        feature_seconds=np.array([[start, end]]) if vectors else None,
    )


def _with_timeline(
    video: Video, record: VideoRecord, model: InferenceModel, options: PredictOptions, on_progress: OnProgress | None
) -> Prediction:
    assert options.timeline is not None
    line = make_timeline(
        video,
        record.path,
        model,
        options.timeline,
        num_crops=options.num_crops or 1,
        view_batch_size=options.view_batch_size,
        features=options.features,
        start_seconds=record.start_seconds,
        end_seconds=record.end_seconds,
        on_progress=on_progress,
    )
    return Prediction(
        record.path,
        rank(line.whole_video, model, options.top_k),
        heads=rank_heads(line.whole_video, model, options.top_k),
        start_seconds=float(line.times[0]),
        end_seconds=float(line.times[-1]),
        segments=line.segments,
        error=line.error,
        timeline=line,
        features=line.features,
        feature_seconds=None if line.features is None else line.windows,
    )
