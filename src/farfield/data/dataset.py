"""Datasets: batches of uint8 clips, and what could not be decoded, by name.

One item is one batch: the sampler hands whole lists of keys to `__getitem__`, and the loader does no collation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.clips import Clip, training_clip, video_views
from farfield.data.manifest import Manifest
from farfield.data.order import SampleKey
from farfield.data.randomness import Purpose, generator
from farfield.errors import FarfieldError, VideoError


class Failure(NamedTuple):
    """A video that could not serve, and why."""

    path: str
    reason: str


class Batch(NamedTuple):
    """Clips as they leave a worker; on the device `clips` becomes (b*v 3 t h w) float, normalised."""

    clips: UInt8[Tensor, "b v t h w c"] | Float[Tensor, "bv c t h w"]
    labels: Int[Tensor, " b"]
    indices: Int[Tensor, " b"]
    """Rows of the manifest."""
    flip: Bool[Tensor, " b"] | None
    """Which clips to mirror; None for none."""
    colour: Float[Tensor, "b 3"] | None
    """Factors of brightness, contrast and saturation; None for no change."""
    failures: list[Failure]
    """Videos that were to be in this batch and could not be read."""


class TrainingClips(Dataset[Batch]):
    """One random clip of each video asked for; a video that cannot serve is replaced by another of its class.

    Args:
        manifest: the videos.
        labels: the classes, in the network's order.
        spec: what the network wants of a clip.
        augmentation: what is varied at random.
        seed: of the run.

    Raises:
        FarfieldError: for a label that is not among `labels`; while loading, when no video at all can be read.
    """

    def __init__(
        self, manifest: Manifest, labels: Sequence[str], spec: ClipSpec, augmentation: Augmentation, *, seed: int
    ) -> None:
        self.manifest = manifest
        self.targets = manifest.targets(labels)
        self.spec = spec
        self.augmentation = augmentation
        self.seed = seed
        self._known_failures: dict[int, VideoError] = {}  # saves opening a bad file again; never changes a result

    def __getitem__(self, keys: Sequence[SampleKey]) -> Batch:
        clips, indices, flips, colours = [], [], [], []
        failures: list[Failure] = []
        for key in keys:
            clip, index = self._load(key, failures)
            rng = generator(Purpose.AUGMENTATION, self.seed, key.epoch, key.row)
            flips.append(self.augmentation.draw_flip(rng))
            colours.append(self.augmentation.draw_colour(rng))
            clips.append(clip.frames)
            indices.append(index)
        return Batch(
            torch.stack(clips),
            torch.from_numpy(self.targets[indices]),
            torch.tensor(indices),
            torch.tensor(flips) if self.augmentation.flip else None,
            torch.tensor(np.array(colours), dtype=torch.float32) if self.augmentation.colour else None,
            failures,
        )

    def _load(self, key: SampleKey, failures: list[Failure]) -> tuple[Clip, int]:
        for index in (key.row, *self._replacements(key)):
            rng = generator(Purpose.CLIP, self.seed, key.epoch, key.row)
            try:
                if index in self._known_failures:
                    raise self._known_failures[index]
                record, path = self.manifest[index], self.manifest.path(index)
                return training_clip(path, record, self.spec, self.augmentation.crop_scale, rng), index
            except VideoError as error:
                self._known_failures[index] = error
                failures.append(Failure(error.path, error.reason))
        raise FarfieldError(
            f"none of the {len(self.manifest)} videos of {self.manifest.source} can be read. "
            f"The last: {failures[-1].path}: {failures[-1].reason}. Are the paths right, from {self.manifest.root}?"
        )

    def _replacements(self, key: SampleKey) -> Iterator[int]:
        """Other videos in the order in which they are tried: those of the same class, then all others."""
        rng = generator(Purpose.REPLACEMENT, self.seed, key.epoch, key.row)
        same = self.targets == self.targets[key.row]
        for candidates in (np.flatnonzero(same), np.flatnonzero(~same)):
            yield from (int(index) for index in rng.permutation(candidates) if index != key.row)


class EvaluationViews(Dataset[Batch]):
    """All views of each video asked for, in one decoding; a video that cannot be read is left out and named.

    Args:
        manifest: the videos.
        labels: the classes, in the network's order.
        spec: what the network wants of a clip.
        num_clips: clips spread over the time of a video.
        num_crops: crops of each clip.

    Raises:
        FarfieldError: for a label that is not among `labels`.
    """

    def __init__(
        self, manifest: Manifest, labels: Sequence[str], spec: ClipSpec, *, num_clips: int, num_crops: int
    ) -> None:
        self.manifest = manifest
        self.targets = manifest.targets(labels)
        self.spec = spec
        self.num_clips = num_clips
        self.num_crops = num_crops

    def __getitem__(self, chosen: Sequence[int]) -> Batch:
        clips, indices, failures = [], [], []
        for index in chosen:
            record, path = self.manifest[index], self.manifest.path(index)
            try:
                clip = video_views(path, record, self.spec, num_clips=self.num_clips, num_crops=self.num_crops)
            except VideoError as error:
                failures.append(Failure(error.path, error.reason))
                continue
            clips.append(clip.frames)
            indices.append(index)
        side, views = self.spec.test_side_px, self.num_clips * self.num_crops
        nothing = torch.empty((0, views, self.spec.num_frames, side, side, 3), dtype=torch.uint8)
        return Batch(
            torch.stack(clips) if clips else nothing,
            torch.from_numpy(self.targets[indices]) if clips else torch.empty(0, dtype=torch.int64),
            torch.tensor(indices, dtype=torch.int64),
            None,
            None,
            failures,
        )
