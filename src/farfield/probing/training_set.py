"""Features and targets of training, validation and test videos, and random batches of training views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from farfield.data.randomness import Purpose, generator
from farfield.data.samplers import class_balanced_order
from farfield.probing.extraction import VECTORS
from farfield.probing.feature_cache import CachedFeatures


@dataclass(frozen=True)
class FeatureSet:
    """Cached features of videos, with their targets.

    Attributes:
        features: cached features. A training video has a row for each of its views; a validation or test video has a
            single row with all its views.
        targets: target of each row (see `Batch.labels`), on the CPU. A mirrored view has the class that
            `data.flip_labels` gives.
        video_targets: target of each video according to its manifest, on the CPU.
        rows_per_video: number of rows in `features` for each video; 1 for validation and test videos.
        manifest_rows: index of each video's row in its manifest.
        num_maps: number of cached feature maps of a view, one for each pathway of the network; 0 if only pooled vectors
            are cached.
        device: device that heads run on.
        is_coarse: whether `inputs` returns maps that are average-pooled to half of their length, height and width. Odd
            sizes are rounded up, and a size of 2 is kept.
    """

    features: CachedFeatures
    targets: Tensor
    video_targets: Tensor
    rows_per_video: int
    manifest_rows: list[int]
    num_maps: int
    device: torch.device
    is_coarse: bool = False

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.manifest_rows)

    @cached_property
    def vectors(self) -> Tensor:
        """Pooled feature vectors of all views: (rows views c), one row for each row of `features`."""
        return self.features.get(VECTORS, range(len(self.features))).to(self.device)

    def inputs(self, rows: Int[np.ndarray, " b"], *, maps: bool) -> tuple[Tensor, ...]:
        """Return a head's inputs for all views of the given rows, each (b views ...), in float32 on the device.

        The inputs are the feature maps of each pathway if `maps` is True, else the pooled vectors.
        """
        if not maps:
            return (self.vectors[torch.from_numpy(rows).to(self.device)],)
        chosen = rows.tolist()
        found = tuple(
            self.features.get(f"map{place}", chosen).to(self.device, torch.float32) for place in range(self.num_maps)
        )
        return tuple(_coarse_map(each) for each in found) if self.is_coarse else found

    def coarse(self) -> FeatureSet:
        """Return the same features, with maps that are average-pooled to half of their length, height and width."""
        return replace(self, is_coarse=True)

    def targets_of(self, rows: Int[np.ndarray, " b"]) -> Tensor:
        """Return the targets of the given rows, on the device."""
        return self.targets[torch.from_numpy(rows)].to(self.device)


def _coarse_map(features: Float[Tensor, "b views c t h w"]) -> Tensor:
    """Average-pool maps to half of t, h and w, rounded up.

    An axis of length 2 keeps its length, because a non-local block may max-pool its keys over pairs of positions.
    """
    t, h, w = (max(-(-length // 2), min(length, 2)) for length in features.shape[-3:])
    return F.adaptive_avg_pool3d(features.flatten(0, 1), (t, h, w)).unflatten(0, features.shape[:2])


def training_rows(
    videos: Int[np.ndarray, " n"],
    batch_size: int,
    *,
    rows_per_video: int,
    seed: int,
    draw: int = 0,
    classes: Sequence[int] | None = None,
) -> Iterator[Int[np.ndarray, " b"]]:
    """Endlessly yield batches of random training views, as row indices of a `FeatureSet`.

    An epoch has as many rows as there are videos. Each row is a random view of a video. The views of a video are
    consecutive rows of the `FeatureSet`.

    Args:
        videos: indices of the videos to train on.
        batch_size: rows in a batch; a batch may begin in one epoch and end in the next.
        rows_per_video: number of views of each video.
        seed: seed of the run.
        draw: second seed. It gives each of several trainings in a run a different order of views.
        classes: class of each of `videos`, to choose all classes equally often. An epoch may then repeat some videos
            and omit others. None to use each video once in an epoch.
    """
    waiting = np.empty(0, dtype=np.int64)
    epoch = 0
    while True:
        while len(waiting) < batch_size:
            rng = generator(Purpose.ORDER, seed, epoch, draw)
            if classes is None:
                order = rng.permutation(len(videos))
            else:
                order, _ = class_balanced_order(np.asarray(classes), rng)
            views = rng.integers(rows_per_video, size=len(order))
            waiting = np.concatenate([waiting, videos[order] * rows_per_video + views])
            epoch += 1
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]
