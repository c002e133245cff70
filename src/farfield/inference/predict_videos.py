"""Predict many videos, in this process, in worker processes or on a Ray cluster.

If one video fails, the others are still predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from farfield.allocator import keep_freed_memory
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, VideoError
from farfield.inference.predict import OnProgress, PredictOptions, predict_file
from farfield.inference.prediction_schema import Prediction
from farfield.parallel import Engine, for_each
from farfield.precision import Precision
from farfield.scoring.load import InferenceModel, load_model
from farfield.task import Task
from farfield.timelines.timeline_segments import check_timeline_options


@dataclass(frozen=True)
class PredictionJob:
    """A video for a worker process to predict, and the network for the worker to load.

    Attributes:
        file: absolute path of the video.
        record: the video, or the segment of it to predict, with the path as the caller gave it.
        checkpoint: path for `load_model`.
        device: device for `load_model`.
        precision: precision for `load_model`.
        options: options of the prediction.
    """

    file: str
    record: VideoRecord
    checkpoint: str
    device: str
    precision: Precision
    options: PredictOptions


def run_job(job: PredictionJob) -> Prediction:
    """Predict one video in a worker process. The worker keeps the network in memory for its next video."""
    model = _cached_model(job.checkpoint, job.device, job.precision)
    return _predict_record(job.file, job.record, model, job.options)


def _predict_record(
    file: str,
    record: VideoRecord,
    model: InferenceModel,
    options: PredictOptions,
    on_progress: OnProgress | None = None,
) -> Prediction:
    return predict_file(
        file,
        model,
        options if record.fps is None else replace(options, fps=record.fps),
        start_seconds=record.start_seconds,
        end_seconds=record.end_seconds,
        on_progress=on_progress,
    )


def _failed(record: VideoRecord, task: Task, reason: str) -> Prediction:
    return Prediction(
        record.path,
        [],
        task=task,
        error=reason,
        requested_start_seconds=record.start_seconds,
        requested_end_seconds=record.end_seconds,
    )


@lru_cache(maxsize=1)
def _cached_model(checkpoint: str, device: str, precision: Precision) -> InferenceModel:
    torch.set_num_threads(1)  # there is a worker per core
    return _load(checkpoint, device, precision)


def _load(checkpoint: str, device: str, precision: Precision) -> InferenceModel:
    """Load a network; on the CPU, also let this process keep freed memory for reuse."""
    model = load_model(checkpoint, device=device, precision=precision)
    if model.device.type == "cpu":
        keep_freed_memory()
    return model


def predict_videos(
    records: Sequence[VideoRecord],
    options: PredictOptions,
    *,
    checkpoint: str,
    device: str = "auto",
    precision: Precision = "float32",
    num_workers: int = 0,
    engine: Engine = "local",
    seconds_per_video: float = 3600,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[VideoRecord, Prediction]]:
    """Predict videos and segments of videos, and yield pairs (record, prediction) as they finish.

    If a video fails, its prediction has an empty ranking, and the reason in `error`.

    Args:
        records: videos and segments of videos, with paths that can be opened, as from `find_records`. A record's fps
            replaces `options.fps`.
        options: options of the prediction.
        checkpoint: path for `load_model`.
        device: device for `load_model`.
        precision: precision for `load_model`.
        num_workers: number of worker processes, each with one thread. With the engine "local", 0 predicts in this
            process, in the order of `records`. With "ray", 0 means one worker per core of the cluster.
        engine: "local" or "ray".
        seconds_per_video: time limit for each video in a worker process. A video that takes longer fails.
        on_progress: called with two numbers for the current video: the windows or views scored so far, and their total
            (see `predict_video`). Worker processes do not call it.

    Raises:
        FarfieldError: if the checkpoint cannot be loaded on the device, an option is invalid, or features are requested
            from an exported network.
    """
    if num_workers < 0:
        raise FarfieldError(f"num_workers is {num_workers}; it must be at least 0.")
    model = _load(checkpoint, device, precision)  # also with workers, so that a mistake shows once
    if options.features and not hasattr(model, "embed"):
        raise FarfieldError(
            f"{checkpoint} is an exported network, which returns no features. Give the checkpoint that it was exported "
            "from."
        )
    if options.timeline is not None:
        check_timeline_options(options.timeline, model)
    task = model.task
    if engine == "local" and num_workers == 0:
        for record in records:
            try:
                yield record, _predict_record(record.path, record, model, options, on_progress)
            except VideoError as error:
                yield record, _failed(record, task, error.reason)
        return
    del model
    absolute = str(Path(checkpoint).absolute())
    jobs = [
        PredictionJob(str(Path(record.path).absolute()), record, absolute, device, precision, options)
        for record in records
    ]
    for job, result in for_each(
        run_job, jobs, num_workers=num_workers or None, seconds_per_job=seconds_per_video, engine=engine
    ):
        if isinstance(result, str):
            yield job.record, _failed(job.record, task, result)
        else:
            yield job.record, replace(result, path=job.record.path)
