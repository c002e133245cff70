"""Many videos, here or over a cluster: each is asked the same question, and one that fails costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farfield.allocator import keep_freed_memory
from farfield.errors import FarfieldError, VideoError
from farfield.inference.predict import predict, rank
from farfield.inference.prediction_formats import Answer
from farfield.inference.timeline import timeline
from farfield.parallel import Engine, for_each
from farfield.precision import Precision
from farfield.scoring.load import InferenceModel, load_model


@dataclass(frozen=True)
class Question:
    """What is asked of each video, in plain types.

    Args:
        top_k: classes in a ranking.
        views: options of `predict`: num_clips, num_crops, hop.
        windows: options of `timeline`; None for no timeline.
        features: whether what the classifier sees is kept.
        view_batch_size: views that go through the network at once; no answer depends on it, but to rounding.

    Raises:
        FarfieldError: for counts below 1.
    """

    top_k: int = 5
    views: dict[str, Any] = field(default_factory=dict)
    windows: dict[str, Any] | None = None
    features: bool = False
    view_batch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("top_k", "view_batch_size"):
            if getattr(self, name) < 1:
                raise FarfieldError(f"{name} is {getattr(self, name)}; it must be at least 1.")


Progress = Callable[[int, int], object]


def ask(path: str, model: InferenceModel, question: Question, *, progress: Progress | None = None) -> Answer:
    """ConversionOptions for one video.

    Raises:
        FarfieldError: for a question that makes no sense.
        VideoError: where nothing of the video can be read.
    """
    common: dict[str, Any] = {"view_batch_size": question.view_batch_size, "features": question.features}
    if question.windows is None:
        found = predict(path, model, top_k=question.top_k, **question.views, **common)
        vectors = None if found.features is None else found.features[None]
        seconds = np.array([[found.start_seconds, found.end_seconds]])
        return Answer(
            path, found.ranking, found.start_seconds, found.end_seconds, features=vectors, feature_seconds=seconds
        )
    line = timeline(path, model, progress=progress, **question.windows, **common)
    ranking = rank(line.mean, line.labels, question.top_k)
    start, end = float(line.times[0]), float(line.times[-1])
    return Answer(path, ranking, start, end, line.segments, line.error, line.features, line.windows)


@dataclass(frozen=True)
class PredictionJob:
    """A video, for a worker that loads the network itself."""

    path: str
    name: str
    """The path as it was given."""
    checkpoint: str
    device: str
    precision: Precision
    question: Question


def ask_elsewhere(job: PredictionJob) -> Answer:
    """`ask` in a process of its own, which keeps the network for the next video."""
    return ask(job.path, _model(job.checkpoint, job.device, job.precision), job.question)


@lru_cache(maxsize=1)
def _model(checkpoint: str, device: str, precision: Precision) -> InferenceModel:
    torch.set_num_threads(1)  # as many processes as cores: threads of theirs would get in each other's way
    return _load(checkpoint, device, precision)


def _load(checkpoint: str, device: str, precision: Precision) -> InferenceModel:
    """For a process that has this to do and ends."""
    model = load_model(checkpoint, device=device, precision=precision)
    if model.device.type == "cpu":
        keep_freed_memory()
    return model


def ask_all(
    paths: Sequence[str],
    question: Question,
    *,
    checkpoint: str,
    device: str = "auto",
    precision: Precision = "float32",
    num_workers: int = 0,
    engine: Engine = "local",
    seconds_per_video: float = 3600,
    progress: Progress | None = None,
) -> Iterator[Answer]:
    """Yields an answer for each video, as they are done.

    Args:
        paths: the files.
        question: what is asked.
        checkpoint: whatever `load_model` reads.
        device: where to run.
        precision: of `load_model`.
        num_workers: processes with one thread each; 0 for this process, in the order of `paths`. For "ray" 0 means as
            many as the cluster has cores.
        engine: "local" or "ray".
        seconds_per_video: where there are workers, one that takes longer is ended, and its video fails.
        progress: in this process, is told of windows done and windows in all.

    Raises:
        FarfieldError: for a checkpoint, a device or a question that cannot serve.
    """
    if num_workers < 0:
        raise FarfieldError(f"num_workers is {num_workers}; it must be at least 0, which is for this process.")
    model = _load(checkpoint, device, precision)  # a mistake shows here, once
    if question.features and not hasattr(model, "embed"):
        raise FarfieldError(f"{checkpoint} is exported, and gives scores only. Give its checkpoint to get features.")
    if engine == "local" and num_workers == 0:
        for path in paths:
            try:
                yield ask(path, model, question, progress=progress)
            except VideoError as error:
                yield Answer(path, [], error=error.reason)
        return
    del model
    there = str(Path(checkpoint).absolute())
    jobs = [PredictionJob(str(Path(path).absolute()), path, there, device, precision, question) for path in paths]
    for job, found in for_each(
        ask_elsewhere, jobs, num_workers=num_workers or None, seconds_per_job=seconds_per_video, engine=engine
    ):
        answer = Answer(job.path, [], error=found) if isinstance(found, str) else found
        yield _renamed(answer, job.name)


def _renamed(answer: Answer, path: str) -> Answer:
    return Answer(**{**vars(answer), "path": path})
