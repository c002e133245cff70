"""Predict many videos, in one process, in workers or on a Ray cluster. A failing video does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from farfield.allocator import keep_freed_memory
from farfield.errors import FarfieldError, VideoError
from farfield.inference.predict import OnProgress, PredictOptions, predict_file
from farfield.inference.prediction_schema import Prediction
from farfield.parallel import Engine, for_each
from farfield.precision import Precision
from farfield.scoring.load import InferenceModel, load_model


@dataclass(frozen=True)
class PredictionJob:
    """A video for a worker process to predict, and the network for it to load.

    Attributes:
        file: absolute path of the video.
        path: path of the video as the caller gave it.
        checkpoint: path for `load_model`.
        device: device for `load_model`.
        precision: precision for `load_model`.
        options: options of the prediction.
    """

    file: str
    path: str
    checkpoint: str
    device: str
    precision: Precision
    options: PredictOptions


def run_job(job: PredictionJob) -> Prediction:
    """Predict one video in a worker process. The worker keeps the network in memory for its next video."""
    return predict_file(job.file, _cached_model(job.checkpoint, job.device, job.precision), job.options)


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
    paths: Sequence[str],
    options: PredictOptions,
    *,
    checkpoint: str,
    device: str = "auto",
    precision: Precision = "float32",
    num_workers: int = 0,
    engine: Engine = "local",
    seconds_per_video: float = 3600,
    on_progress: OnProgress | None = None,
) -> Iterator[Prediction]:
    """Yield a prediction for each video as it finishes.

    Args:
        paths: video files.
        options: options of the prediction.
        checkpoint: path for `load_model`.
        device: device for `load_model`.
        precision: precision for `load_model`.
        num_workers: number of worker processes, each with one thread. 0 predicts in this process, in the order of
            `paths`; with "ray", 0 means one worker per core of the cluster.
        engine: "local" or "ray".
        seconds_per_video: time limit for each video in a worker process.
        on_progress: called with (windows done, windows in all) as a timeline's windows are scored; not called by
            workers.

    Raises:
        FarfieldError: if the checkpoint cannot be loaded on the device, an option is invalid, or features are requested
            from an exported network.
    """
    if num_workers < 0:
        raise FarfieldError(f"num_workers is {num_workers}; it must be at least 0 (0: no worker processes).")
    model = _load(checkpoint, device, precision)  # also with workers, so that a mistake shows once
    if options.features and not hasattr(model, "embed"):
        raise FarfieldError(
            f"{checkpoint} is an exported network, which returns no features. Give the checkpoint that it was exported "
            "from."
        )
    if engine == "local" and num_workers == 0:
        for path in paths:
            try:
                yield predict_file(path, model, options, on_progress=on_progress)
            except VideoError as error:
                yield Prediction(path, [], error=error.reason)
        return
    del model
    absolute = str(Path(checkpoint).absolute())
    jobs = [PredictionJob(str(Path(path).absolute()), path, absolute, device, precision, options) for path in paths]
    for job, result in for_each(
        run_job, jobs, num_workers=num_workers or None, seconds_per_job=seconds_per_video, engine=engine
    ):
        yield Prediction(job.path, [], error=result) if isinstance(result, str) else replace(result, path=job.path)
