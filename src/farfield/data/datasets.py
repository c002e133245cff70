"""Datasets of uint8 clips for training and evaluation. Each batch also lists the videos that could not be decoded.

One item of a dataset is a whole batch. `__getitem__` takes a list with an entry for each video of the batch: a
`SampleKey` for training, a manifest row for evaluation. The loader therefore does not collate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation, Draw
from farfield.data.clips import Clip, training_clips, video_views
from farfield.data.frame_cache import FrameCache
from farfield.data.manifest import Manifest
from farfield.data.mirrored_labels import mirror_targets, mirrored_classes
from farfield.data.randomness import Purpose, generator
from farfield.data.samplers import SampleKey, scaled_side
from farfield.data.shared_memory import stack_into_buffer
from farfield.data.targets import ClipTargets, row_targets
from farfield.data.unlabelled import TrainingVideos, padded_targets
from farfield.data.untrimmed import UntrimmedVideos
from farfield.data.untrimmed_sampling import NoFreeTime
from farfield.errors import FarfieldError, VideoError
from farfield.task import DEFAULT_TASK, Task
from farfield.video.decoder_names import Decoder


class Failure(NamedTuple):
    """A video that could not be read, and the reason."""

    path: str
    reason: str
    empty_class: str | None = None
    """The video's class, if a video of another class replaced it because no video of its own class can be read; else
    None."""


class Batch(NamedTuple):
    """A batch of clips, their labels, and the videos that could not be read.

    The axes of `clips` are b (clips or videos), v (views of each), t (frames), h (height), w (width) and c (colour
    channels). Before the transfer to the device, `clips` is uint8 (b v t h w c). After the transfer, it is normalised
    and float (b*v 3 t h w).
    """

    clips: UInt8[Tensor, "b v t h w c"] | Float[Tensor, "bv c t h w"]
    labels: Int[Tensor, " b"] | Float[Tensor, "b classes"]
    """Class of each clip; for a multilabel or multi_head task, 1 for each class that the clip has, else 0. For training
    clips of untrimmed videos, the share of the clip's time that each class covers."""
    indices: Int[Tensor, " b"]
    """Manifest row of each clip's video; for a replaced video, the row of its replacement."""
    draw: Draw | None
    """Augmentations to apply on the device; None for no augmentation."""
    failures: list[Failure]
    """Videos of this batch that could not be read."""
    teacher_clips: UInt8[Tensor, "b v t h w c"] | Float[Tensor, "bv c t h w"] | None = None
    """Clips for the teacher, which show the same times and image regions as `clips`, in the teacher's input size; None
    without a teacher."""
    is_labelled: Bool[Tensor, " b"] | None = None
    """Whether each clip has a label; None if all clips have one. In `labels`, unlabelled clips have zeros."""


class TrainingClips(Dataset[Batch]):
    """Batches of random training clips; an unreadable video is replaced by another video with the same labels.

    If no video with the same labels can be read, a video with other labels is the replacement. For a labelled video in
    a single-label task, `Failure.empty_class` then names the class without readable videos.

    Args:
        manifest: training videos.
        labels: class names in the network's order.
        spec: input format of the network.
        augmentation: random variation of the clips.
        seed: seed of the run.
        clips_per_video: number of clips drawn from a video each time it is opened (Hoffer et al., CVPR 2020).
        decoder: "pyav" or "decord", see `open_video`.
        cache_bytes: size in bytes of each loading process's cache of decoded frames; 0 for no cache.
        flip_labels: maps a class to the class that its clips show when mirrored. Classes that keep their label are left
            out.
        task: task of the network.
        clip_targets: computes a clip's targets from the labelled segments of its video. None if every clip has the
            labels of its manifest row, or if `untrimmed` is given.
        untrimmed: places in untrimmed videos to draw clips from, and the targets of these clips; None for trimmed
            videos. If it is given, `manifest` must be `untrimmed.sources`.
        teacher: input format of the teacher, for `Batch.teacher_clips`; None without a teacher.
        unlabelled: videos without labels; their row numbers continue those of `manifest`. None if there are none.

    Raises:
        FarfieldError: see `row_targets`; while loading, if no video can be read.
    """

    def __init__(
        self,
        manifest: Manifest,
        labels: Sequence[str],
        spec: ClipSpec,
        augmentation: Augmentation,
        *,
        seed: int,
        clips_per_video: int = 1,
        decoder: Decoder = "pyav",
        cache_bytes: int = 0,
        flip_labels: Mapping[str, str] | None = None,
        task: Task = DEFAULT_TASK,
        clip_targets: ClipTargets | None = None,
        untrimmed: UntrimmedVideos | None = None,
        teacher: ClipSpec | None = None,
        unlabelled: Manifest | None = None,
    ) -> None:
        self.manifest = manifest
        self.videos = TrainingVideos(manifest, unlabelled)
        self.targets = padded_targets(row_targets(manifest, labels, task), len(unlabelled or ()))
        self._is_labelled = np.arange(len(self.videos)) < len(manifest)
        self.teacher = teacher
        self.clip_targets = clip_targets
        self.untrimmed = untrimmed
        self.labels = labels
        self.spec = spec
        self.augmentation = augmentation
        self.seed = seed
        self.clips_per_video = clips_per_video
        self.decoder = decoder
        self._frame_cache = (
            FrameCache(cache_bytes, decoder, deinterlace=spec.deinterlace, tone_map=spec.tone_map)
            if cache_bytes
            else None
        )
        self._keeps_direction = np.isin(np.array(labels, dtype=object), augmentation.keep_direction)
        self._mirrored = mirrored_classes(labels, flip_labels or {})
        # Saves opening an unreadable file again. Exceptions are not kept: their tracebacks would keep frames alive.
        self._known_failures: dict[int, Failure] = {}
        self._without_free_time: set[int] = set()

    def __getitem__(self, keys: Sequence[SampleKey]) -> Batch:
        clips: list[Clip] = []
        targets: list[np.ndarray] = []
        indices: list[int] = []
        generators: list[np.random.Generator] = []
        failures: list[Failure] = []
        for key in keys:
            loaded, index = self._load(key, failures)
            clips += loaded
            targets += [self._target(index, clip) for clip in loaded]
            indices += [index] * len(loaded)
            generators += self._generators(Purpose.AUGMENTATION, key)
        labels, has_label = np.stack(targets), self._is_labelled[indices]
        taught = [clip.teacher_frames for clip in clips if clip.teacher_frames is not None]
        spec, _ = self._at_scale(keys[0].scale)
        draw = self.augmentation.draw(
            generators,
            self._generators(Purpose.MIX, keys[0])[0],
            self._keep_direction(labels, has_label),
            spec.crop_px,
        )
        if draw.flip is not None:
            labels = mirror_targets(labels, draw.flip.numpy(), self._mirrored)
        return Batch(
            stack_into_buffer([clip.frames for clip in clips]),
            torch.from_numpy(labels),
            torch.tensor(indices),
            draw,
            failures,
            stack_into_buffer(taught) if taught else None,
            torch.from_numpy(has_label) if self.videos.unlabelled is not None else None,
        )

    def _target(self, row: int, clip: Clip) -> np.ndarray:
        """Return a clip's class index for a single-label task, else the target of each class (see `Batch.labels`)."""
        if self.untrimmed is not None:
            return self.untrimmed.target(row, clip.bounds_seconds[0])
        if self.clip_targets is None or not self._is_labelled[row]:
            return self.targets[row]
        return self.clip_targets.of_clip(row, clip.times_seconds)

    def _keep_direction(self, labels: np.ndarray, has_label: Bool[np.ndarray, " b"]) -> list[bool]:
        """Return which clips must not be mirrored: those of a class that is never mirrored.

        If there is such a class, unlabelled clips must not be mirrored either, since they may show this class.
        """
        kept: np.ndarray = (
            self._keeps_direction[labels] if labels.ndim == 1 else np.any(labels[:, self._keeps_direction] > 0, axis=1)
        )
        return list(np.where(has_label, kept, self._keeps_direction.any()).tolist())

    def _at_scale(self, scale: float) -> tuple[ClipSpec, Augmentation]:
        """Scale input size and crop settings by `scale`, so that smaller clips show the same part of the frame."""
        if scale == 1:
            return self.spec, self.augmentation
        side, jitter = scaled_side(self.spec.crop_px, scale), self.augmentation.short_side_px
        scaled = None if jitter is None else (max(round(jitter[0] * scale), side), max(round(jitter[1] * scale), side))
        return self.spec.replace(crop_px=side), replace(self.augmentation, short_side_px=scaled)

    def _generators(self, purpose: Purpose, key: SampleKey) -> list[np.random.Generator]:
        """Create a random generator for each clip of a video. The generators do not depend on the worker process."""
        clips = range(key.repeat * self.clips_per_video, (key.repeat + 1) * self.clips_per_video)
        return [generator(purpose, self.seed, key.epoch, key.row, *([clip] if clip else [])) for clip in clips]

    def _load(self, key: SampleKey, failures: list[Failure]) -> tuple[list[Clip], int]:
        """Load the clips of a video. If the video cannot be read, load the clips of a replacement.

        Videos that cannot be read are appended to `failures`. If no clip fits into a video's free time (outside of its
        labelled segments), the video is replaced, too, but not appended.

        Returns:
            The clips, and the row of the loaded video.
        """
        known_before = len(failures)
        for index in chain([key.row], self._replacements(key)):  # a generator: drawn only if needed
            if index in self._without_free_time:
                continue
            if index not in self._known_failures:
                record, path = self.videos[index], self.videos.path(index)
                generators = self._generators(Purpose.CLIP, key)
                spec, augmentation = self._at_scale(key.scale)
                videos = self.untrimmed
                choose = None if videos is None else partial(videos.choose_frames, index, spec=spec)
                try:
                    clips = training_clips(
                        path,
                        record,
                        spec,
                        augmentation,
                        generators,
                        decoder=self.decoder,
                        frame_cache=self._frame_cache,
                        choose=choose,
                        teacher=self.teacher,
                    )
                    self._name_empty_class(failures, known_before, key.row, index)
                    return clips, index
                except NoFreeTime:  # not an error of the video: other clips of it are fine
                    assert videos is not None
                    self._without_free_time.add(index)
                    videos.check_free_time(self._without_free_time)
                    continue
                except VideoError as error:
                    self._known_failures[index] = Failure(error.path, error.reason)
            failures.append(self._known_failures[index])
        raise FarfieldError(
            f"none of the videos of {self.manifest.source} can be read ({len(self.videos)} in all). "
            f"Last error: {failures[-1].path}: {failures[-1].reason}. Check the manifest's paths, which are relative "
            f"to {self.manifest.root}."
        )

    def _name_empty_class(self, failures: list[Failure], begin: int, wanted: int, taken: int) -> None:
        """Set `Failure.empty_class` if a video of another class was loaded in place of the wanted video.

        In this case, no video of the wanted video's class can be read. From index `begin` on, `failures` then has one
        entry for each video of this class, the wanted video first, and `empty_class` is set in all these entries. If
        the wanted video is unlabelled, or in a multilabel or multi_head task, `empty_class` stays None.

        Args:
            failures: failures of the batch so far; changed in place.
            begin: index in `failures` of the wanted video's entry, if there is one.
            wanted: row of the video that the sampler drew.
            taken: row of the video that was loaded.
        """
        target = self.targets[wanted]
        if self.targets.ndim == 1 and self._is_labelled[wanted] and not self._same_target(wanted)[taken]:
            of_class = np.count_nonzero(self._same_target(wanted))  # these are tried first
            for place in range(begin, begin + of_class):
                failures[place] = failures[place]._replace(empty_class=self.labels[target])

    def _replacements(self, key: SampleKey) -> Iterator[int]:
        """Yield the rows of possible replacements for a video, in random order.

        Videos with the same labels come first, then all others.
        """
        rng = self._generators(Purpose.REPLACEMENT, key)[0]
        same = self._same_target(key.row)
        for candidates in (np.flatnonzero(same), np.flatnonzero(~same)):
            yield from (int(index) for index in rng.permutation(candidates) if index != key.row)

    def _same_target(self, row: int) -> Bool[np.ndarray, " rows"]:
        """Return whether each video has the same labels as the video in `row`. Unlabelled videos match each other."""
        same: np.ndarray = (self.targets == self.targets[row]).reshape(len(self.targets), -1).all(1)
        return same & (self._is_labelled == self._is_labelled[row])


class EvaluationViews(Dataset[Batch]):
    """Batches of videos for evaluation, with all views (clips x crops) of each. A video is decoded once for all views.

    Unreadable videos are left out of the clips and listed in `Batch.failures`.

    Args:
        manifest: videos to evaluate.
        labels: class names in the network's order.
        spec: input format of the network.
        num_clips: number of clips spread over each video.
        num_crops: number of crops of each clip.
        decoder: "pyav" or "decord", see `open_video`.
        task: task of the network.

    Raises:
        FarfieldError: see `row_targets`.
    """

    def __init__(
        self,
        manifest: Manifest,
        labels: Sequence[str],
        spec: ClipSpec,
        *,
        num_clips: int,
        num_crops: int,
        decoder: Decoder = "pyav",
        task: Task = DEFAULT_TASK,
    ) -> None:
        self.manifest = manifest
        self.targets = row_targets(manifest, labels, task)
        self.spec = spec
        self.num_clips = num_clips
        self.num_crops = num_crops
        self.decoder = decoder

    def __getitem__(self, chosen: Sequence[int]) -> Batch:
        clips, indices, failures = [], [], []
        for index in chosen:
            record, path = self.manifest[index], self.manifest.path(index)
            try:
                clip = video_views(
                    path,
                    record,
                    self.spec,
                    num_clips=self.num_clips,
                    num_crops=self.num_crops,
                    decoder=self.decoder,
                )
            except VideoError as error:
                failures.append(Failure(error.path, error.reason))
                continue
            clips.append(clip.frames)
            indices.append(index)
        side, views = self.spec.test_side_px, self.num_clips * self.num_crops
        nothing = torch.empty((0, views, self.spec.num_frames, side, side, 3), dtype=torch.uint8)
        return Batch(
            stack_into_buffer(clips) if clips else nothing,
            torch.from_numpy(self.targets[indices]),
            torch.tensor(indices, dtype=torch.int64),
            None,
            failures,
        )
