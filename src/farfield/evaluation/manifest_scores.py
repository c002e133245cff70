"""Score the videos of a manifest with Lightning's Trainer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch import Tensor

from farfield.allocator import keep_freed_memory
from farfield.clip_spec import ViewsAggregation
from farfield.data.evaluation_datamodule import TestDataModule
from farfield.data.manifest import Manifest
from farfield.evaluation.scores_file import Scores
from farfield.evaluation.scoring_module import ScoringModule
from farfield.evaluation.test_inputs import no_readable_video
from farfield.lightning_errors import lightning_errors_as_ours
from farfield.task import Task


def make_trainer(accelerator: str, devices: int, precision: str, *, progress: bool) -> Trainer:
    """Make Lightning's Trainer for a test. The arguments are those of `evaluate`."""
    bars: list[Callback] = [RichProgressBar(console_kwargs={"stderr": True})] if progress else []
    with lightning_errors_as_ours(ValueError):
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp" if devices > 1 else "auto",
            use_distributed_sampler=False,  # the data module's loader gives each process its share
            precision=precision,  # type: ignore[arg-type]  # checked before
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
            callbacks=bars,
        )
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return trainer


def score_manifest(
    trainer: Trainer, module: ScoringModule, data: TestDataModule, name: str
) -> tuple[Scores, list[int]]:
    """Score the videos of a manifest. Return the scores, and the manifest row of each scored video.

    Args:
        trainer: from `make_trainer`.
        module: module that scores batches.
        data: data module of the videos.
        name: the manifest's name, for messages.

    Raises:
        FarfieldError: if no video can be read.
        KeyboardInterrupt: if interrupted.
    """
    try:
        trainer.test(module, datamodule=data, verbose=False)
    except SystemExit as error:  # Lightning's, of an interrupt
        raise KeyboardInterrupt from error
    if not module.scores:
        raise no_readable_video(len(data.manifest), name, module.failures)
    indices, targets, probabilities = (torch.cat(parts) for parts in zip(*module.scores, strict=True))
    rows = indices.tolist()
    scores = video_scores(
        data.manifest,
        rows,
        targets,
        probabilities,
        labels=data.labels,
        views_aggregation=data.clip.views_aggregation,
        task=data.task,
    )
    return scores, rows


def video_scores(
    manifest: Manifest,
    rows: Sequence[int],
    targets: Tensor,
    probabilities: Float[Tensor, "n views classes"],
    *,
    labels: Sequence[str],
    views_aggregation: ViewsAggregation,
    task: Task,
) -> Scores:
    """Build `Scores` from class probabilities, with the paths and segments of the videos from the manifest.

    Args:
        manifest: tested videos.
        rows: row of each video in the manifest.
        targets: for a single-label task, the class index of each video; for other tasks, whether each video has each
            class, 1 or 0.
        probabilities: class probabilities of each view of each video.
        labels: class names.
        views_aggregation: how the probabilities of the views are aggregated.
        task: task of the network.
    """
    times = [(manifest[row].start_seconds, manifest[row].end_seconds) for row in rows]
    segments = torch.tensor([[math.nan if time is None else time for time in each] for each in times]).double()
    return Scores(
        list(labels),
        [canonical_path(manifest.path(row)) for row in rows],
        targets if task == "single_label" else targets > 0,
        probabilities,
        None if segments.isnan().all() else segments,
        views_aggregation,
        task,
    )


def canonical_path(video: Path) -> str:
    """Return a video's absolute path.

    Symbolic links in the folder's path are resolved. If the video is itself a link, the name of the link is kept, since
    the file that it points to may have a hash as its name.
    """
    return str(video.parent.resolve() / video.name)
