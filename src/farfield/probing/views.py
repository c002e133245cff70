"""Augmented clips of a probe's training videos, and the keys of its cached features."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from farfield.clip_spec import ClipSpec
from farfield.data.augmentation import Augmentation
from farfield.data.clips import training_clips
from farfield.data.datasets import Batch, Failure
from farfield.data.manifest import Manifest
from farfield.data.randomness import Purpose, generator
from farfield.data.shared_memory import stack_into_buffer
from farfield.errors import VideoError
from farfield.video.decoder_names import Decoder


class AugmentedViews(Dataset[Batch]):
    """Augmented clips of training videos. Sample i is view `i % num_views` of row `i // num_views` of the manifest.

    The dataset is indexed with a list of samples, and returns them as a `Batch`. The random numbers of a view are a
    function of (seed, index of the view, file name, segment). They do not depend on the other rows of the manifest. A
    video that cannot be read has no clip in the batch; it is listed in `Batch.failures`.

    Args:
        manifest: training videos.
        spec: the network's clip settings.
        augmentation: random variation of the clips. Its MixUp and CutMix must be off.
        keep_direction: for each row of the manifest, True if its clips must not be mirrored.
        num_views: number of views of each video.
        seed: seed of the run.
        decoder: "pyav" or "decord".
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: ClipSpec,
        augmentation: Augmentation,
        keep_direction: Sequence[bool],
        *,
        num_views: int,
        seed: int,
        decoder: Decoder = "pyav",
    ) -> None:
        self.manifest = manifest
        self.spec = spec
        self.augmentation = augmentation
        self.keep_direction = keep_direction
        self.num_views = num_views
        self.seed = seed
        self.decoder = decoder

    def __getitem__(self, samples: Sequence[int]) -> Batch:
        clips, indices, generators, failures = [], [], [], []
        for sample in samples:
            row, view = divmod(sample, self.num_views)
            path, record = self.manifest.path(row), self.manifest[row]
            name = json.dumps([path.name, record.start_seconds, record.end_seconds])
            position = view, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
            rng = generator(Purpose.CLIP, self.seed, *position)
            try:
                [clip] = training_clips(path, record, self.spec, self.augmentation, [rng], decoder=self.decoder)
            except VideoError as error:
                failures.append(Failure(error.path, error.reason))
                continue
            clips.append(clip.frames)
            indices.append(sample)
            generators.append(generator(Purpose.AUGMENTATION, self.seed, *position))
        side = self.spec.crop_px
        keep = [self.keep_direction[sample // self.num_views] for sample in indices]
        draw = self.augmentation.draw(generators, generator(Purpose.MIX, self.seed), keep, side) if clips else None
        nothing = torch.empty((0, 1, self.spec.num_frames, side, side, 3), dtype=torch.uint8)
        return Batch(
            stack_into_buffer(clips) if clips else nothing,
            torch.zeros(len(clips), dtype=torch.int64),  # a view's target is looked up when heads are trained
            torch.tensor(indices, dtype=torch.int64),
            draw,
            failures,
        )


class Batches(Sampler[list[int]]):
    """Sampler that cuts the sequence `samples` into batches of at most `size`, without changing the order."""

    def __init__(self, samples: Sequence[int], size: int) -> None:
        self.samples, self.size = samples, size

    def __len__(self) -> int:
        return -(-len(self.samples) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        for begin in range(0, len(self.samples), self.size):
            yield list(self.samples[begin : begin + self.size])


def video_key(manifest: Manifest, row: int, *more: int) -> str:
    """Return the key under which the features of a video or segment are cached.

    The key is a hash of `more`; of the path, size and modification time of the file; and of the start, end and frame
    rate in the manifest.

    Args:
        manifest: manifest with the video.
        row: index of the video's row in the manifest.
        more: numbers that distinguish several features of the same video, such as the index of a view.
    """
    path, record = manifest.path(row), manifest[row]
    about = [str(path.absolute()), _version(path), record.start_seconds, record.end_seconds, record.fps, *more]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


def _version(path: Path) -> list[Any]:
    """Return the size and modification time of a video file, or the name, size and time of each picture in a folder."""
    try:
        if path.is_dir():  # whose own time of change stays the same when a picture is overwritten
            with os.scandir(path) as entries:
                pictures = {each.name: _size_and_time(each.stat()) for each in entries}
            return sorted(pictures.items())
        return _size_and_time(path.stat())
    except OSError:  # it will fail to open, and never be in the cache
        return []


def _size_and_time(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]
