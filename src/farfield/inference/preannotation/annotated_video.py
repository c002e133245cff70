"""Predicted annotations of a video for labelling tools: actions with their times, or labels of the whole video."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from farfield.errors import VideoError
from farfield.inference.prediction_schema import Prediction
from farfield.task import Task
from farfield.video.decoders import open_video
from farfield.video.frame_rate import duration_seconds, frame_rate


@dataclass(frozen=True)
class Action:
    """An action in the time [start, end) of a video.

    Attributes:
        start_seconds: start, counted from the video's first frame.
        end_seconds: end, excluded.
        labels: labels of the action: one, or a class of each head of a multi_head network.
        score: confidence of the network, from 0 to 1.
    """

    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video and its predicted labels.

    Attributes:
        path: absolute path.
        name: unique base name, without suffix, of the files that are written for this video.
        times: display time of each frame, in seconds after the first frame, ascending.
        fps: average frames per second.
        width: width of a frame in pixels, after rotation to upright.
        height: height of a frame in pixels, after rotation to upright.
        duration_seconds: length of the video.
        task: task of the network.
        model: the network's backbone; "farfield" if unknown.
        actions: actions in order of time; None if all predictions are of the whole video and have no timeline.
        labels: labels and their scores, from the first prediction that is of the whole video and has no timeline. Empty
            if there is no such prediction, or if no class of a multilabel network reaches its threshold.
    """

    path: Path
    name: str
    times: Float[np.ndarray, " frames"]
    fps: float
    width: int
    height: int
    duration_seconds: float
    task: Task
    model: str
    actions: list[Action] | None
    labels: list[tuple[str, float]]

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.times)

    def frames(self, action: Action) -> tuple[int, int]:
        """Return an action's first frame and the frame after its last, as indices from 0 at the average frame rate.

        Start and end are rounded to the nearest frame. An action has at least one frame, and does not extend past the
        end of the video.
        """
        return self._limited(round(action.start_seconds * self.fps), round(action.end_seconds * self.fps))

    def decoded_frames(self, action: Action) -> tuple[int, int]:
        """Return an action's first frame and the frame after its last, as indices of decoded frames, from 0.

        The result differs from that of `frames` if the frame rate varies. Start and end are rounded to the nearest
        frame. An action has at least one frame, and does not extend past the end of the video.
        """
        bounds = np.append(self.times, self.duration_seconds)
        middles = (bounds[:-1] + bounds[1:]) / 2
        first, end = np.searchsorted(middles, [action.start_seconds, action.end_seconds]).tolist()
        return self._limited(first, end)

    def _limited(self, first: int, end: int) -> tuple[int, int]:
        """Limit a range of frames to the video, and extend it to at least one frame."""
        first = min(first, self.num_frames - 1)
        return first, min(max(end, first + 1), self.num_frames)


def annotated_videos(predictions: Iterable[tuple[str, Prediction]]) -> list[AnnotatedVideo]:
    """Join all predictions of each video, and open the video to find its frame rate, size and length.

    The segments of a timeline become actions. Without a timeline, the predicted labels of a whole video become the
    labels of the video, and each predicted label of a part of a video becomes an action over that part. The predicted
    labels depend on the task:

    - single_label: the most probable class
    - multilabel: all classes that reach their thresholds
    - multi_head: the classes of the most probable combination, one from each head

    Videos that could not be predicted are left out. Videos that can no longer be opened are left out with a warning.

    Args:
        predictions: (base name for files, prediction) of each video or part of a video. If a video has several parts,
            the base name of its first part is used.
    """
    by_path: dict[str, list[tuple[str, Prediction]]] = defaultdict(list)
    for name, prediction in predictions:
        if prediction.ranking:
            by_path[prediction.path].append((name, prediction))
    videos = []
    for path, parts in by_path.items():
        try:
            videos.append(_annotated(Path(path), parts[0][0], [prediction for _, prediction in parts]))
        except VideoError as error:
            warnings.warn(f"{path} is left out of the files for labelling tools: {error.reason}", stacklevel=2)
    return videos


def _annotated(path: Path, name: str, parts: list[Prediction]) -> AnnotatedVideo:
    with open_video(path) as video:
        height, width = video.frames(np.array([0])).shape[1:3]
        times = video.times
    seconds = duration_seconds(times)
    whole = [each for each in parts if _is_whole(each)]
    actions = sorted(
        (action for each in parts if not _is_whole(each) for action in _actions(each, seconds)),
        key=lambda action: (action.start_seconds, action.end_seconds, action.labels),
    )
    return AnnotatedVideo(
        path.absolute(),
        name,
        times,
        frame_rate(times),
        width,
        height,
        seconds,
        parts[0].task,
        parts[0].model or "farfield",
        None if len(whole) == len(parts) else actions,
        _labels(whole[0]) if whole else [],
    )


def _is_whole(prediction: Prediction) -> bool:
    """Return whether a prediction is of a whole video and has no timeline."""
    requested = (prediction.requested_start_seconds, prediction.requested_end_seconds)
    return prediction.segments is None and requested == (None, None)


def _actions(prediction: Prediction, seconds: float) -> list[Action]:
    """Return the segments of a prediction's timeline; without a timeline, each predicted label as an action.

    Args:
        prediction: prediction of a video, or of a part of a video.
        seconds: length of the video. Without a timeline, actions end here if no end was requested for the prediction.
    """
    if prediction.segments is not None:
        return [
            Action(each.start_seconds, each.end_seconds, tuple(each.label.split("|")), each.score)
            for each in prediction.segments
        ]
    start, end = prediction.requested_start_seconds or 0.0, prediction.requested_end_seconds or seconds
    return [Action(start, end, (label,), score) for label, score in _labels(prediction)]


def _labels(prediction: Prediction) -> list[tuple[str, float]]:
    """Return the predicted labels with scores: the most probable or, if multilabel, all that reach their thresholds."""
    if prediction.task == "multilabel":
        return [(each.label, each.probability) for each in prediction.above_threshold]
    best = prediction.ranking[0]
    return [(label, best.probability) for label in best.label.split("|")]
