"""LightningDataModule for evaluation: loaders that yield all views of each test video."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.batch_loader import batch_loader
from farfield.data.datasets import Batch, EvaluationViews
from farfield.data.manifest import Manifest
from farfield.data.samplers import EvaluationBatches
from farfield.data.targets import row_targets
from farfield.data.transforms import network_input, scaled_draw
from farfield.parallel import usable_cores
from farfield.task import DEFAULT_TASK, Task
from farfield.video.decoder_names import Decoder


class TestDataModule(LightningDataModule):
    """LightningDataModule that yields batches of test videos with `num_clips` x `num_crops` views of each video.

    Args:
        manifest: videos to test on.
        labels: class names in the network's order.
        clip: input format of the network.
        num_clips: number of clips spread over each video.
        num_crops: number of crops of each clip.
        batch_size: number of videos per batch and process.
        num_workers: number of decoding processes; None for one per CPU core, at most 8. 0 decodes in the main process.
        decoder: see `open_video`.
        task: task of the network.

    Raises:
        FarfieldError: see `row_targets`.
    """

    __test__ = False  # not a test case for pytest

    def __init__(
        self,
        manifest: Manifest,
        labels: Sequence[str],
        clip: ClipSpec,
        *,
        num_clips: int,
        num_crops: int,
        batch_size: int = 1,
        num_workers: int | None = None,
        decoder: Decoder = "pyav",
        task: Task = DEFAULT_TASK,
    ) -> None:
        super().__init__()
        self.manifest = manifest
        self.clip = clip
        self.labels = labels
        self.num_clips = num_clips
        self.num_crops = num_crops
        self.batch_size = batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.decoder: Decoder = decoder
        self.task: Task = task
        row_targets(manifest, labels, task)  # raises for an unknown label now

    def test_dataloader(self) -> DataLoader[Batch]:
        return evaluation_loader(
            self.manifest,
            self.labels,
            self.clip,
            num_clips=self.num_clips,
            num_crops=self.num_crops,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            trainer=self.trainer,
            decoder=self.decoder,
            task=self.task,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return to_network_input(batch, self.clip)


def to_network_input(
    batch: Batch, clip: ClipSpec, augmentation: Augmentation | None = None, *, teacher: ClipSpec | None = None
) -> Batch:
    """Augment and normalise a batch's clips on their device, see `network_input`.

    Clips for a teacher, if any, get the same augmentation. They are normalised with the mean and standard deviation in
    `teacher`, the teacher's input format.
    """
    clips = network_input(batch.clips, clip, draw=batch.draw, augmentation=augmentation)
    if batch.teacher_clips is None or teacher is None:
        return batch._replace(clips=clips)
    draw = batch.draw and scaled_draw(batch.draw, batch.teacher_clips.shape[-2] / batch.clips.shape[-2])
    taught = network_input(batch.teacher_clips, teacher, draw=draw, augmentation=augmentation)
    return batch._replace(clips=clips, teacher_clips=taught)


def evaluation_loader(
    manifest: Manifest,
    labels: Sequence[str],
    clip: ClipSpec,
    *,
    num_clips: int,
    num_crops: int,
    batch_size: int,
    num_workers: int,
    trainer: Trainer | None,
    decoder: Decoder = "pyav",
    task: Task = DEFAULT_TASK,
) -> DataLoader[Batch]:
    """Create a loader that yields all views of each video; the videos are divided among the trainer's processes."""
    dataset = EvaluationViews(
        manifest, labels, clip, num_clips=num_clips, num_crops=num_crops, decoder=decoder, task=task
    )
    rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    batches = EvaluationBatches(len(manifest), batch_size, rank=rank, world_size=world_size)
    return batch_loader(dataset, batches, num_workers)


def default_workers() -> int:
    """Return the default number of processes that decode: the number of cores, at most 8."""
    return min(usable_cores(), 8)
