"""LightningDataModule for training: loaders of uint8 batches of training and validation videos."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.batch_loader import batch_loader
from farfield.data.datasets import Batch, EvaluationViews, TrainingClips
from farfield.data.evaluation_datamodule import default_workers, evaluation_loader, to_network_input
from farfield.data.manifest import read_manifest
from farfield.data.mirrored_labels import check_heads, flipped_labels
from farfield.data.samplers import EpochBatchSampler, EvaluationBatches
from farfield.data.targets import WholeVideos, count_videos, row_targets, whole_videos_of
from farfield.data.unlabelled import MixedEpoch, TrainingVideos, unlabelled_videos
from farfield.data.untrimmed import HARD_REPEATS, NEGATIVE_SHARE
from farfield.data.untrimmed_options import UntrimmedOptions
from farfield.data.untrimmed_validation import ValidationWindows
from farfield.data.video_record import VideoRecord
from farfield.errors import FarfieldError, nearest
from farfield.lightning_compat import processed_batches
from farfield.task import DEFAULT_TASK, Task
from farfield.video.decoder_names import DecoderOption
from farfield.video.decoders import current_name


class VideoDataModule(LightningDataModule):
    """Training and validation videos.

    Args:
        train: manifest of the training videos.
        val: manifest of the validation videos; None for no validation.
        root: folder that the paths in `train`, `val` and `unlabelled` are relative to; None for the folder of each
            file.
        labels: class names in the network's order; None for the training manifest's labels, sorted.
        batch_size: number of clips in a training batch, and number of videos in a validation batch, per process.
        num_workers: number of processes that decode; None for the number of cores, at most 8. 0 decodes in the main
            process.
        augmentation: random variation of training clips.
        flip_labels: pairs of classes that swap their labels when a clip is mirrored. A pair works in both directions:
            {"turning left": "turning right"} also labels a mirrored clip of "turning right" as "turning left". With
            null, the pairs are the classes whose names differ only in "left" and "right", and they are logged. {} swaps
            no labels.
        clips_per_video: number of clips of each video in a batch. A batch then has batch_size / clips_per_video videos.
            Each video is opened once for all its clips, which saves time, but the clips' gradients are correlated.
        class_balanced: draw all classes equally often, instead of each video once an epoch.
        short_cycle: cycle through batches of 4 x batch_size clips at half the height and width, 2 x batch_size clips
            at 0.71 of the height and width, and batch_size clips at the full size. An epoch then has 3/7 of the steps
            (Wu et al., "A Multigrid Method", CVPR 2020). The learning rate depends on batch_size alone.
        decoder: pyav, which decodes only the frames that are needed, or decord. With decord, PyAV still reads the files
            from which decord would return wrong frames; the log says how many files these are. Configs of earlier
            versions may spell pyav as PyAV.
        memory_gb: total size of the caches of decoded training frames, in 10^9 bytes; 0 for no cache. Each worker has
            its own cache, and all caches have the same size. Over the epochs, every worker reads every video, so a
            video is stored num_workers times (once with num_workers 0). If all videos fit into each cache, videos are
            decoded only in the first epochs.
        whole_videos: train and validate on whole videos, for manifests with several labelled segments per video. A
            training clip has the labels of the segments that overlap it, and a validation video has the labels of all
            its segments (the protocol of Charades). Needs a multilabel network. If false, each row counts as a separate
            video.
        untrimmed: train on untrimmed videos; the manifest has a row for each labelled segment. An epoch has one clip of
            each segment, inside it or across its borders, and clips outside of all segments of their videos. The target
            of a class is the share of the clip's time that segments of this class cover. A row without label is not a
            segment; it only lists its video, for example a video in which nothing happens. Validation scores windows
            that lie end to end over whole videos; a window has the classes whose segments cover at least half of it.
            Needs a multilabel network.
        negative_share: with `untrimmed`, the share of an epoch's clips that lie outside of all segments; 0 for none.
            On average, half of these clips are drawn only from places less than one clip length from a segment, if the
            video has such places. The other half are drawn from all places outside of segments.
        hard_negatives: with `untrimmed`, CSV file of windows that a network scored wrongly. Clips are then drawn from
            these windows, too. `farfield test --timeline --write_hard_negatives` on the training manifest writes this
            file.
        hard_negative_repeats: number of clips that an epoch draws from each window in hard_negatives. These clips
            replace clips of segments and clips outside of segments, at most half of either kind. If there are too many
            windows for this limit, fewer clips are drawn from them.
        unlabelled: CSV file whose column `path` lists videos without label. A student network learns its teacher's
            predictions on these videos (see `model.teacher`). Labels in the file are ignored.
        unlabelled_share: fraction of an epoch's videos that are unlabelled; null for every unlabelled video once. This
            option does not change the labelled videos of an epoch.
        clip: input format of the network.
        teacher_clip: input format of the teacher. Its clips show the same times and regions as those of the network.
            None for no teacher.
        task: task of the network: `single_label`, `multilabel` or `multi_head`.
        seed: seed of the run.

    Raises:
        FarfieldError: for a missing or malformed manifest; for a label in a manifest that is not in `labels`; for a row
            without exactly one label, if the task is `single_label`; or for options that do not fit the classes or the
            task.
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
        flip_labels: dict[str, str] | None = None,
        clips_per_video: int = 1,
        class_balanced: bool = False,
        short_cycle: bool = False,
        decoder: DecoderOption = "pyav",
        memory_gb: float = 0.0,
        whole_videos: bool = False,
        untrimmed: bool = False,
        negative_share: float = NEGATIVE_SHARE,
        hard_negatives: str | None = None,
        hard_negative_repeats: int = HARD_REPEATS,
        unlabelled: str | None = None,
        unlabelled_share: float | None = None,
        clip: ClipSpec | None = None,
        teacher_clip: ClipSpec | None = None,
        task: Task = DEFAULT_TASK,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise FarfieldError(f"data.batch_size is {batch_size}; it must be at least 1.")
        if clips_per_video < 1 or batch_size % clips_per_video:
            raise FarfieldError(
                f"data.clips_per_video is {clips_per_video} and data.batch_size is {batch_size}; clips_per_video must "
                "be at least 1 and divide batch_size."
            )
        if num_workers is not None and num_workers < 0:
            raise FarfieldError(f"data.num_workers is {num_workers}; it must be at least 0, or null.")
        if not memory_gb >= 0:
            raise FarfieldError(f"data.memory_gb is {memory_gb}; it must be at least 0.")
        if seed < 0:
            raise FarfieldError(f"seed (in a config, seed_everything) is {seed}; it must be at least 0.")
        if clip is None:
            raise FarfieldError(
                "data.clip is not set. Pass the clip settings of the network: VideoDataModule(..., clip=model.clip)."
            )
        if class_balanced and task != "single_label":
            raise FarfieldError(
                f"data.class_balanced needs one class per video, but the network's task is {task!r}. Leave out "
                "data.class_balanced. For a multilabel task, loss.pos_weight gives rare classes more weight."
            )
        self.task: Task = task
        self.root = root
        self.train_manifest = read_manifest(train, root=root)
        self.val_manifest = None if val is None else read_manifest(val, root=root)
        self.unlabelled = unlabelled_videos(unlabelled, unlabelled_share, root=root, untrimmed=untrimmed)
        self.unlabelled_share = unlabelled_share
        # As in the files.
        self._listed = {"train": self.train_manifest, "val": self.val_manifest, "unlabelled": self.unlabelled}
        self.whole_videos = whole_videos
        self._whole_training_videos: WholeVideos | None = None
        if whole_videos:
            self._whole_training_videos = whole_videos_of(self.train_manifest, task, option="data.whole_videos")
            self.train_manifest = self._whole_training_videos.manifest
            self.val_manifest = self.val_manifest and WholeVideos.of(self.val_manifest).manifest
        self.labels = labels or self.train_manifest.labels
        self.untrimmed_options = UntrimmedOptions(untrimmed, negative_share, hard_negatives, hard_negative_repeats)
        self._untrimmed = self.untrimmed_options.videos(
            self.train_manifest, self.labels, clip, task, whole_videos=whole_videos
        )
        if self._untrimmed is not None:
            self.train_manifest = self._untrimmed.sources
        self.batch_size = batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.augmentation = augmentation
        self.clips_per_video = clips_per_video
        self.class_balanced = class_balanced
        self.short_cycle = short_cycle
        self.decoder = current_name(decoder)
        self.memory_gb = memory_gb
        self.clip = clip
        self.teacher_clip = teacher_clip
        self.seed = seed
        if augmentation.short_side_px is not None and augmentation.short_side_px[0] < clip.crop_px:
            raise FarfieldError(
                f"data.augmentation.short_side_px is {augmentation.short_side_px}, but a square of {clip.crop_px} x "
                f"{clip.crop_px} pixels must fit into the resized frame. Raise both values to at least {clip.crop_px}."
            )
        for label in augmentation.keep_direction:
            if label not in self.labels:
                hint = nearest(label, self.labels)
                raise FarfieldError(f"data.augmentation.keep_direction names {label!r}, which is not a class. {hint}")
        self.flip_labels = flipped_labels(self.labels, augmentation, flip_labels)
        if not self.labels:
            raise FarfieldError(f"{train} has no label in any row, so there are no classes to train. Label the videos.")
        self.class_counts = count_videos(row_targets(self.train_manifest, self.labels, task), len(self.labels))
        """Number of training videos of each class."""
        self.num_training_videos = len(self.train_manifest)
        if task == "multi_head":
            check_heads(self.labels, self.flip_labels)
        if self.val_manifest is not None:  # raises for an unknown label now, not after the first epoch
            targets = row_targets(self.val_manifest, self.labels, task)
            if task == "multilabel" and not targets.any():
                raise FarfieldError(
                    f"{val} has no label in any row, so mean average precision (val/map) cannot be measured. "
                    "Add labelled videos."
                )

    def train_dataloader(self) -> DataLoader[Batch]:
        whole = self._whole_training_videos
        dataset = TrainingClips(
            self.train_manifest,
            self.labels,
            self.clip,
            self.augmentation,
            seed=self.seed,
            clips_per_video=self.clips_per_video,
            decoder=self.decoder,
            cache_bytes=int(self.memory_gb * 1e9 / max(self.num_workers, 1)),
            flip_labels=self.flip_labels,
            task=self.task,
            clip_targets=None if whole is None else whole.clip_targets(self.labels),
            untrimmed=self._untrimmed,
            teacher=self.teacher_clip,
            unlabelled=self.unlabelled,
        )
        return batch_loader(dataset, self._train_sampler(), self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        if self.val_manifest is None:
            return []
        if self.untrimmed_options.untrimmed:
            windows, rank, world_size = self._validation_windows, *self._rank()
            batches = EvaluationBatches(len(windows), self.batch_size, rank=rank, world_size=world_size)
            return batch_loader(windows, batches, self.num_workers)
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
            task=self.task,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return to_network_input(batch, self.clip, self.augmentation, teacher=self.teacher_clip)

    def batches_per_epoch(self) -> int:
        """Return the number of training batches per epoch and process, at most the trainer's `limit_train_batches`."""
        whole = len(self._train_sampler())
        limit = self.trainer.limit_train_batches if self.trainer else 1.0
        return max(1, min(whole, limit) if isinstance(limit, int) else int(whole * limit))

    def clips_per_batch(self) -> int:
        """Return the number of clips in a training batch of a process; with `short_cycle`, in the smallest batch.

        It is less than `batch_size` if there are too few videos for one whole batch.
        """
        sampler = self._train_sampler()
        return min(sampler.batch_size, sampler.num_samples // sampler.world_size) * self.clips_per_video

    @property
    def training_videos(self) -> TrainingVideos:
        """Labelled training videos, followed by the unlabelled videos.

        With the option `untrimmed`, the labelled videos are replaced by the parts of videos from which clips are drawn:
        - a row for each segment
        - if `negative_share` is above 0: for each video with time outside of its segments, a row for this time
        - a row for each window in `hard_negatives`

        With or without `untrimmed`, the `Batch.indices` of training batches are row numbers of the result.
        """
        return TrainingVideos(self.train_manifest, self.unlabelled)

    def training_paths(self, rows: Sequence[int]) -> list[str]:
        """Return the paths of training videos, given their indices in `training_videos`."""
        return [str(self.training_videos.path(row)) for row in rows]

    def validation_batch(self, rows: Sequence[int]) -> Batch:
        """Load one central view of each given validation video, as network input on the CPU.

        Args:
            rows: row indices in the validation manifest. With the option `untrimmed`, `rows` are window numbers
                instead (see `ValidationWindows`), and the views show these windows.
        """
        assert self.val_manifest is not None
        if self.untrimmed_options.untrimmed:
            return to_network_input(self._validation_windows[rows], self.clip)
        views = EvaluationViews(
            self.val_manifest, self.labels, self.clip, num_clips=1, num_crops=1, decoder=self.decoder, task=self.task
        )
        return to_network_input(views[rows], self.clip)

    def validation_videos(self, rows: Sequence[int]) -> list[VideoRecord]:
        """Return the manifest's row of each given validation video.

        Args:
            rows: row indices or window numbers, see `validation_batch`. The row of a window is that of its video.
        """
        assert self.val_manifest is not None
        if self.untrimmed_options.untrimmed:
            windows = self._validation_windows
            return [windows.manifest[windows.video(row)] for row in rows]
        return [self.val_manifest[row] for row in rows]

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of the training and validation videos, see `Manifest.provenance`."""
        return {name: manifest.provenance() for name, manifest in self._listed.items() if manifest is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return the settings that determine clips, labels and steps and must not change when a run is resumed."""
        return {
            "batches_per_epoch": self.batches_per_epoch(),
            "accumulate_grad_batches": self.trainer.accumulate_grad_batches if self.trainer else 1,
            "batch_size": self.batch_size,
            "clips_per_video": self.clips_per_video,
            "class_balanced": self.class_balanced,
            "short_cycle": self.short_cycle,
            "flip_labels": self.flip_labels,
            "seed": self.seed,
            "whole_videos": self.whole_videos,
            **self.untrimmed_options.state_dict(),
            "unlabelled_share": self.unlabelled_share,
            "unlabelled_hash": None if self.unlabelled is None else self.unlabelled.content_hash(),
            "manifest_hash": self._train_hash(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the settings equal those of the run to resume; raise `FarfieldError` if not."""
        now = self.state_dict()
        older = {"short_cycle": False, "flip_labels": {}, "whole_videos": False}  # what older checkpoints lack
        older |= UntrimmedOptions().state_dict() | {"accumulate_grad_batches": now["accumulate_grad_batches"]}
        before = older | state_dict
        changed = [f"{name} was {before.get(name)}, now {now[name]}" for name in now if before.get(name) != now[name]]
        if changed:
            raise FarfieldError(
                f"data settings differ from those of the run to resume: {'; '.join(changed)}. Resume with the same "
                "training manifest, data settings, seed and number of processes, or start a new run in another "
                "run folder."
            )

    def _train_hash(self) -> str:
        listed = self._listed["train"]
        assert listed is not None
        return listed.content_hash()

    def _train_sampler(self) -> EpochBatchSampler:
        videos, (rank, world_size) = self._untrimmed, self._rank()
        classes = self.train_manifest.targets(self.labels) if self.class_balanced else None
        epoch = None if videos is None else videos.epoch
        num_samples = len(self.train_manifest if videos is None else videos)
        if self.unlabelled is not None:
            mixed = MixedEpoch(len(self.train_manifest), len(self.unlabelled), self.unlabelled_share, classes)
            epoch, num_samples = mixed.draw, len(mixed)
        return EpochBatchSampler(
            num_samples,
            self.batch_size // self.clips_per_video,
            seed=self.seed,
            position=self._position,
            rank=rank,
            world_size=world_size,
            classes=classes,
            epoch=epoch,
            short_cycle=self.short_cycle,
        )

    @cached_property
    def _validation_windows(self) -> ValidationWindows:
        assert self.val_manifest is not None
        return ValidationWindows(self.val_manifest, self.labels, self.clip, decoder=self.decoder)

    def _rank(self) -> tuple[int, int]:
        """Return the rank of this process, and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _position(self) -> tuple[int, int]:
        """Return the current epoch and the number of batches trained in it.

        Both are computed from the trainer's batch count, which checkpoints store.
        """
        if self.trainer is None:
            return 0, 0
        return divmod(processed_batches(self.trainer), self.batches_per_epoch())
