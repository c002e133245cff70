"""Predict the actions in a live camera or stream, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from farfield.errors import FarfieldError
from farfield.inference.live_stream import live_windows
from farfield.inference.prediction_schema import RankedLabel, rank
from farfield.scoring.load import InferenceModel
from farfield.task import DEFAULT_TASK, Task
from farfield.timelines.window_scores import score_windows


@dataclass(frozen=True)
class LivePrediction:
    """The prediction for one window of a stream.

    Attributes:
        start_seconds: time of the window's first frame, counted from the first frame of the stream.
        end_seconds: time at which the display of the window's last frame ends.
        ranking: the most probable classes, best first; in a multilabel task also all others at their threshold.
        task: task of the network.
    """

    start_seconds: float
    end_seconds: float
    ranking: list[RankedLabel]
    task: Task = DEFAULT_TASK


def predict_live(
    source: str,
    model: InferenceModel,
    *,
    top_k: int = 5,
    hop_seconds: float | None = None,
    window_seconds: float | None = None,
) -> Iterator[LivePrediction]:
    """Yield predictions for the newest windows of a camera or stream, until it ends.

    Args:
        source: a URL that FFmpeg opens (rtsp, http, udp, tcp, ...), or a camera's device such as /dev/video0.
        model: from `load_model`.
        top_k: number of classes in each ranking.
        hop_seconds: minimum time between the starts of windows; None for half a window.
        window_seconds: length of a window; None for the length of the network's clips.

    Raises:
        FarfieldError: if top_k is below 1, hop_seconds or window_seconds is not positive, or window_seconds is None and
            the network samples segments of a whole video.
        VideoError: if the source cannot be opened, or ends with an error.
    """
    if top_k < 1:
        raise FarfieldError(f"top_k is {top_k}; it must be at least 1.")
    with live_windows(source, model.clip, hop_seconds=hop_seconds, window_seconds=window_seconds) as windows:
        for window in windows:
            [score] = score_windows([window], model, view_batch_size=1)
            ranking = rank(score.probabilities, model, top_k)
            yield LivePrediction(window.start_seconds, window.end_seconds, ranking, model.task)
