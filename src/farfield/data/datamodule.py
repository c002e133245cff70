"""The LightningDataModule: loaders of uint8 batches, and their way onto the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, Sampler, default_convert

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.datasets import Batch, EvaluationViews, TrainingClips
from farfield.data.manifest import Manifest, read_manifest
from farfield.data.samplers import EpochBatchSampler
from farfield.data.shared_memory import SharedBatches, handed_over
from farfield.data.transforms import network_input
from farfield.errors import FarfieldError, nearest
from farfield.lightning_compat import processed_batches
from farfield.parallel import usable_cores
from farfield.video.decoders import Decoder


class VideoDataModule(LightningDataModule):
    """Videos of a training and a validation manifest.

    Args:
        train: manifest of the training videos.
        val: manifest of the validation videos; None trains without validation.
        root: folder that the manifests' paths are relative to; None for each manifest's own.
        labels: class names in the network's order; None for those of the training manifest, sorted.
        batch_size: clips in a training batch of one process; videos in a validation batch.
        num_workers: processes that decode; None for the number of cores, but at most 8. 0 decodes in the main process.
        augmentation: what training varies at random.
        clips_per_video: clips that each opened video gives to a batch, which is then of batch_size / clips_per_video
            videos. Opening and seeking are paid once, and a clip's gradient is averaged with that of its sister.
        class_balanced: draw all classes equally often, instead of each video once an epoch.
        short_cycle: batches take turns of four times the clips at half the side, twice at 0.71 of it, and batch_size at
            the full side: an epoch of 3/7 of the steps (Wu et al., "A Multigrid Method", CVPR 2020). The learning rate
            goes by batch_size alone.
        decoder: PyAV, which decodes only the frames that are needed, or decord; what one cannot open goes to the other.
        memory_gb: decoded training frames to keep, in 10^9 bytes, shared out to the workers: a small set of videos is
            decoded in the first epochs only. Every worker comes by every video in time; num_workers 0 has one copy.
        clip: what the network wants of a clip.
        seed: of the run.

    Raises:
        FarfieldError: for a manifest that is missing or wrong, or a label that is not among the known.
    """

    def __init__(
        self,
        train: str,
        val: str | None = None,
        *,
        root: str | None = None,
        labels: list[str] | None = None,
        batch_size: int = 8,
        num_workers: int | None = None,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  # frozen
        clips_per_video: int = 1,
        class_balanced: bool = False,
        short_cycle: bool = False,
        decoder: Decoder = "PyAV",
        memory_gb: float = 0.0,
        clip: ClipSpec | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise FarfieldError(f"data.batch_size is {batch_size}; it must be at least 1.")
        if clips_per_video < 1 or batch_size % clips_per_video:
            raise FarfieldError(
                f"data.clips_per_video is {clips_per_video} and data.batch_size {batch_size}; the first must be at "
                "least 1 and divide the second."
            )
        if num_workers is not None and num_workers < 0:
            raise FarfieldError(f"data.num_workers is {num_workers}; it must be at least 0, or null.")
        if not memory_gb >= 0:
            raise FarfieldError(f"data.memory_gb is {memory_gb}; it must be at least 0.")
        if seed < 0:
            raise FarfieldError(f"seed_everything is {seed}; it must be at least 0.")
        if clip is None:
            raise FarfieldError("data.clip is not set. Give the network's: VideoDataModule(..., clip=model.clip).")
        self.train_manifest = read_manifest(train, root=root)
        self.val_manifest = None if val is None else read_manifest(val, root=root)
        self.labels = labels or self.train_manifest.labels
        self.batch_size = batch_size
        self.num_workers = _usable_workers() if num_workers is None else num_workers
        self.augmentation = augmentation
        self.clips_per_video = clips_per_video
        self.class_balanced = class_balanced
        self.short_cycle = short_cycle
        self.decoder = decoder
        self.memory_gb = memory_gb
        self.clip = clip
        self.seed = seed
        if augmentation.short_side_px is not None and augmentation.short_side_px[0] < clip.crop_px:
            raise FarfieldError(
                f"data.augmentation.short_side_px is {augmentation.short_side_px}: a square of {clip.crop_px} pixels "
                "must fit into the resized frame. Raise it."
            )
        for label in augmentation.keep_direction:
            if label not in self.labels:
                hint = nearest(label, self.labels)
                raise FarfieldError(f"data.augmentation.keep_direction names {label!r}, which is no class. {hint}")
        for manifest in (self.train_manifest, self.val_manifest):
            if manifest is not None:
                manifest.targets(self.labels)  # an unknown label shows now, not after the first epoch

    def train_dataloader(self) -> DataLoader[Batch]:
        dataset = TrainingClips(
            self.train_manifest,
            self.labels,
            self.clip,
            self.augmentation,
            seed=self.seed,
            clips_per_video=self.clips_per_video,
            decoder=self.decoder,
            memory_bytes=int(self.memory_gb * 1e9 / max(self.num_workers, 1)),
        )
        return batch_loader(dataset, self._order(), self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        if self.val_manifest is None:
            return []
        return evaluation_loader(
            self.val_manifest,
            self.labels,
            self.clip,
            num_clips=1,
            num_crops=1,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            decoder=self.decoder,
            trainer=self.trainer,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return to_network_input(batch, self.clip, self.augmentation)

    def batches_per_epoch(self) -> int:
        """Training batches of an epoch in one process, as far as the trainer's limit_train_batches lets them."""
        whole = len(self._order())
        limit = self.trainer.limit_train_batches if self.trainer else 1.0
        return max(1, min(whole, limit) if isinstance(limit, int) else int(whole * limit))

    def training_paths(self, rows: Sequence[int]) -> list[str]:
        """Where the training videos of some rows are."""
        return [str(self.train_manifest.path(row)) for row in rows]

    def validation_batch(self, rows: Sequence[int]) -> Batch:
        """The validation videos of some rows, one central view each, as the network takes them, on the CPU."""
        assert self.val_manifest is not None
        views = EvaluationViews(
            self.val_manifest, self.labels, self.clip, num_clips=1, num_crops=1, decoder=self.decoder
        )
        return to_network_input(views[rows], self.clip)

    def provenance(self) -> dict[str, Any]:
        """Which videos are trained and validated on, see `Manifest.provenance`."""
        splits = {"train": self.train_manifest, "val": self.val_manifest}
        return {name: manifest.provenance() for name, manifest in splits.items() if manifest is not None}

    def state_dict(self) -> dict[str, Any]:
        """What must not change when a run is resumed, since it decides which clip comes when."""
        return {
            "batches_per_epoch": self.batches_per_epoch(),
            "batch_size": self.batch_size,
            "clips_per_video": self.clips_per_video,
            "class_balanced": self.class_balanced,
            "short_cycle": self.short_cycle,
            "seed": self.seed,
            "manifest_hash": self.train_manifest.content_hash(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        now, before = self.state_dict(), {"short_cycle": False} | state_dict  # older checkpoints do not have it
        changed = [f"{name} was {before.get(name)}, now {now[name]}" for name in now if before.get(name) != now[name]]
        if changed:
            raise FarfieldError(
                f"the run to resume had other data: {'; '.join(changed)}. Resume with the same training manifest, "
                "batch_size, seed and number of processes, or begin a run in another --run_dir."
            )

    def _order(self) -> EpochBatchSampler:
        trainer = self.trainer
        return EpochBatchSampler(
            len(self.train_manifest),
            self.batch_size // self.clips_per_video,
            seed=self.seed,
            position=self._position,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            classes=self.train_manifest.targets(self.labels) if self.class_balanced else None,
            short_cycle=self.short_cycle,
        )

    def _position(self) -> tuple[int, int]:
        """Epoch and batches of it that are done, from the trainer's count of batches, which checkpoints keep."""
        if self.trainer is None:
            return 0, 0
        return divmod(processed_batches(self.trainer), self.batches_per_epoch())


class TestDataModule(LightningDataModule):
    """Videos of one manifest, each with all its test views.

    Args:
        manifest: the videos.
        labels: class names in the network's order.
        clip: what the network wants of a clip.
        num_clips: clips spread over the time of a video.
        num_crops: crops of each clip.
        batch_size: videos in a batch of one process.
        num_workers: processes that decode; None for the number of cores, but at most 8.
    """

    __test__ = False  # no test of pytest's

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
    ) -> None:
        super().__init__()
        self.manifest = manifest
        self.clip = clip
        self.labels = labels
        self.num_clips = num_clips
        self.num_crops = num_crops
        self.batch_size = batch_size
        self.num_workers = _usable_workers() if num_workers is None else num_workers
        manifest.targets(labels)  # an unknown label shows now

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
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return to_network_input(batch, self.clip)


class EvaluationBatches(Sampler[list[int]]):
    """Every row once, in lists of `size`, shared by the processes: each has as many lists, the last may be empty.

    As many: networks that are trained in several processes meet at every batch, in evaluation too.
    """

    def __init__(self, count: int, size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.count, self.size = count, size
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return -(-self.count // (self.size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        mine = range(self.rank, self.count, self.world_size)
        for batch in range(len(self)):
            yield list(mine[batch * self.size : (batch + 1) * self.size])


def to_network_input(batch: Batch, clip: ClipSpec, augmentation: Augmentation | None = None) -> Batch:
    return batch._replace(clips=network_input(batch.clips, clip, draw=batch.draw, augmentation=augmentation))


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
    decoder: Decoder = "PyAV",
) -> DataLoader[Batch]:
    dataset = EvaluationViews(manifest, labels, clip, num_clips=num_clips, num_crops=num_crops, decoder=decoder)
    rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
    order = EvaluationBatches(len(manifest), batch_size, rank=rank, world_size=world_size)
    return batch_loader(dataset, order, num_workers)


def batch_loader(dataset: Dataset[Batch], batches: Sampler, num_workers: int) -> DataLoader[Batch]:
    """A loader whose sampler yields whole batches of keys."""
    return _BatchLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_message,
        worker_init_fn=SharedBatches(num_workers).in_worker,  # the loader keeps the slots as long as it is there
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own: the loader must not draw from the state that dropout draws from
    )


class _BatchLoader(DataLoader[Batch]):
    """Hands a batch's few numbers over in the message itself.

    A tensor that leaves a worker gets a file in shared memory, whose opening takes longer than copying a thousand
    numbers.
    """

    def __iter__(self) -> Any:
        return map(default_convert, super().__iter__())


def _as_message(part: Any) -> Any:
    """In nested tuples, clips in a slot as its number, and other tensors of up to a thousand numbers as arrays."""
    if isinstance(part, torch.Tensor):
        message = handed_over(part)
        return part.numpy() if message is part and part.numel() <= 1000 else message
    if isinstance(part, tuple):
        return type(part)(*(_as_message(each) for each in part))
    return part


def _usable_workers() -> int:
    return min(usable_cores(), 8)
