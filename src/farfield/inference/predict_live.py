"""Predict the actions in live cameras and streams, window by window, and report alarms.

An alarm reports that a camera shows a class, see `AlarmOptions`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from typing import Any

from farfield.errors import FarfieldError, VideoError
from farfield.inference.alarm_events import AlarmEvent, CameraAlarms
from farfield.inference.alarm_options import AlarmOptions, ClipOptions
from farfield.inference.camera_group import CameraGroup, CameraWindow, open_cameras
from farfield.inference.camera_options import CameraOptions
from farfield.inference.prediction_schema import RankedLabel, rank
from farfield.inference.utc import utc_text
from farfield.scoring.load import InferenceModel
from farfield.task import DEFAULT_TASK, Task
from farfield.timelines.timeline_segments import timeline_thresholds
from farfield.timelines.window_scores import score_windows

POLL_SECONDS = 0.2
"""Maximum seconds between two checks.

Each check asks whether the video of an alarm is finished, whether an alarm must end, and whether a stop was requested.
"""


@dataclass(frozen=True)
class LivePrediction:
    """The prediction for one window of a stream.

    Attributes:
        start_seconds: time of the window's first frame, counted from the first frame of the stream. The duration of
            an interruption of the stream is included, measured by this machine's clock.
        end_seconds: time at which the display of the window's last frame ends.
        ranking: the most probable classes, best first. In a multilabel task, it also has all other classes that reach
            their thresholds. The thresholds are those of the alarms if there are alarms, otherwise the network's.
        task: task of the network.
        source: name of the camera or stream.
        start_utc: date and time of the window's first frame, in UTC.
        skipped_windows: number of the source's windows that were skipped since its previous prediction, because scoring
            is too slow. Windows that were skipped before a reconnection are not counted.
    """

    start_seconds: float
    end_seconds: float
    ranking: list[RankedLabel]
    task: Task = DEFAULT_TASK
    source: str | None = None
    start_utc: datetime | None = None
    skipped_windows: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types for JSON."""
        return asdict(self) | {"start_utc": self.start_utc and utc_text(self.start_utc)}


def predict_live(
    source: str,
    model: InferenceModel,
    *,
    top_k: int = 5,
    hop_seconds: float | None = None,
    window_seconds: float | None = None,
) -> Iterator[LivePrediction]:
    """Yield predictions for the newest windows of a camera or stream, until it ends.

    Older windows that have not been scored are skipped, so that latency stays bounded.

    Args:
        source: a URL that FFmpeg opens (rtsp, http, udp, tcp, ...), or a camera's device such as /dev/video0.
        model: from `load_model`.
        top_k: number of classes in each ranking.
        hop_seconds: minimum time between the starts of two successive windows; None for half a window.
        window_seconds: length of a window; None for the length of the network's clips.

    Raises:
        FarfieldError: if top_k is below 1, or hop_seconds or window_seconds is not positive. Also if window_seconds is
            None and the network samples segments of a whole video.
        VideoError: if the source cannot be opened, or ends with an error.
    """
    options = CameraOptions(hop_seconds, window_seconds, reconnect="never")
    for each in predict_cameras([source], model, top_k=top_k, options=options):
        if isinstance(each, LivePrediction):
            yield each


def predict_cameras(
    sources: Sequence[str],
    model: InferenceModel,
    *,
    top_k: int = 5,
    view_batch_size: int = 8,
    options: CameraOptions | None = None,
    alarms: AlarmOptions | None = None,
    clips: ClipOptions | None = None,
    stop: threading.Event | None = None,
) -> Iterator[LivePrediction | AlarmEvent]:
    """Yield predictions and alarm events for the newest windows of several cameras, until all cameras end.

    Each step waits for new windows. Then it scores, in one batch, the newest window of every camera that has a new one.
    Older windows that have not been scored are skipped, so that latency stays bounded. A stream that breaks is opened
    again, unless `options.reconnect` is "never".

    Args:
        sources: cameras, each as SOURCE or NAME=SOURCE. A source is a URL that FFmpeg opens (rtsp, http, udp, tcp,
            ...), a file, or a device such as /dev/video0.
        model: from `load_model`.
        top_k: number of classes in each ranking.
        view_batch_size: maximum number of windows in a batch; bounds memory. If more cameras have a new window, they
            take turns.
        options: how cameras are read; None for the defaults of `CameraOptions`.
        alarms: options that decide when an alarm starts and ends; None for no alarms.
        clips: options for recording a video of each alarm, for example the videos' folder; None to record no videos.
        stop: event that stops the iterator when it is set. Before the iterator stops, it ends all running alarms and
            finishes their videos.

    Raises:
        FarfieldError: for options that are out of range, or incompatible with each other or with the network.
        VideoError: if a camera cannot be opened at the start, and it is the only one or `options.reconnect` is "never".
            At the end of the iteration, also if any of the cameras has ended with an error.
    """
    if top_k < 1:
        raise FarfieldError(f"top_k is {top_k}; it must be at least 1.")
    if clips is not None and alarms is None:
        raise FarfieldError(
            "clips are given without alarms, but clips are recorded only for alarms. Give alarms, or leave clips out."
        )
    options = options or CameraOptions()
    recorder = None if clips is None else clips.prepare(model.clip, options.window_seconds)
    stop = stop or threading.Event()
    thresholds = None if alarms is None else timeline_thresholds(model, model.labels, alarms.threshold).tolist()
    with open_cameras(sources, model.clip, options, recorder) as group:
        numbers = count(1)
        watched = {
            camera.name: CameraAlarms(camera, model, alarms, clips, numbers)
            for camera in group.cameras
            if alarms is not None
        }
        while not stop.is_set() and not group.has_ended:
            windows = group.next_windows(view_batch_size, POLL_SECONDS)
            yield from _score(windows, model, top_k, watched, thresholds)
            for each in watched.values():
                yield from each.poll()
        for camera in group.cameras:
            camera.stop()
        for each in watched.values():
            yield from each.finish()
        _raise_errors(group)


def _score(
    windows: list[CameraWindow],
    model: InferenceModel,
    top_k: int,
    watched: dict[str, CameraAlarms],
    thresholds: list[float] | None,
) -> Iterator[LivePrediction | AlarmEvent]:
    """Score windows in one batch, and yield each window's prediction, followed by the alarm events that it causes.

    Args:
        windows: newest windows of the cameras, at most one of each.
        model: network to score with.
        top_k: number of classes in each ranking.
        watched: maps a camera's name to the object that tracks its alarms; empty if there are no alarms.
        thresholds: threshold of each class for the rankings; None for the network's own thresholds.
    """
    scores = score_windows([each.window for each in windows], model, max(len(windows), 1))
    for each, score in zip(windows, scores, strict=True):
        camera, window = each.camera, each.window
        yield LivePrediction(
            window.start_seconds,
            window.end_seconds,
            rank(score.probabilities, model, top_k, thresholds=thresholds),
            model.task,
            camera.name,
            camera.utc(window.start_seconds),
            each.skipped,
        )
        if camera.name in watched:
            yield from watched[camera.name].update(window.start_seconds, window.end_seconds, score.probabilities)


def _raise_errors(group: CameraGroup) -> None:
    for camera in group.cameras:
        if camera.error is not None:
            raise VideoError(camera.name, camera.error)
