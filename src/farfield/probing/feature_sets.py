"""Compute the features of training, validation and test videos, or read them from the cache."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from farfield.data.augmentation import Augmentation
from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import Batch, EvaluationViews, Failure
from farfield.data.manifest import Manifest
from farfield.data.mirrored_labels import mirror_targets, mirrored_classes
from farfield.data.targets import row_targets
from farfield.errors import FarfieldError
from farfield.probing.extraction import FLIPPED, Extractor, fill_cache
from farfield.probing.feature_cache import CachedFeatures, FeatureCache, as_gigabytes
from farfield.probing.training_set import FeatureSet
from farfield.probing.views import AugmentedViews, video_key

log = logging.getLogger("farfield")

FORMAT = 1
"""Version of features and keys. It is increased when they change, so that older cached features are not used."""


@dataclass
class Planned:
    """Which features a manifest's videos need. Features that the cache already holds are not computed again.

    A sample is one augmented view (clip) of a training video, or all test views of a validation or test video.

    Attributes:
        name: what the videos are for ("training", "validation" or "test"), for messages.
        manifest: the videos.
        keys: key of each sample in the cache.
        cache: cache for these features.
        views: number of views of a sample.
        samples_per_video: number of samples of each video; samples of a video are consecutive.
        is_training: whether the samples are augmented training clips; otherwise they are test views.
    """

    name: str
    manifest: Manifest
    keys: list[str]
    cache: FeatureCache
    views: int
    samples_per_video: int
    is_training: bool

    @property
    def num_missing(self) -> int:
        """Number of samples that the cache lacks."""
        return sum(key not in self.cache for key in self.keys)

    def missing_bytes(self, extractor: Extractor) -> int:
        """Return the size, in bytes, of the features that the cache lacks."""
        missing = self.num_missing
        return missing * extractor.row_bytes(views=self.views, training=self.is_training) if missing else 0


class FeatureMaker:
    """Makes the feature sets of a probe's training, validation and test videos.

    `plan_training` and `plan_test` open the cache, and raise `FarfieldError` in the same cases as `FeatureCache`.

    Args:
        data: training videos, labels, and how clips are read. Validation and test videos are given to `plan_test`.
        extractor: computes features.
        folder: folder of the cache.
        num_views: number of augmented views of each training video.
        precision: number format in which the network runs, such as "bf16-mixed", see Lightning's Trainer.
        weights: hash of the network's weights, from `weights_hash`.
    """

    def __init__(
        self, data: VideoDataModule, extractor: Extractor, *, folder: Path, num_views: int, precision: str, weights: str
    ) -> None:
        self.data = data
        self.extractor = extractor
        self.folder = folder
        self.num_views = num_views
        network = extractor.network
        config = {name: network.config[name] for name in ("backbone", "backbone_options", "insert", "block")}
        clip = {name: value for name, value in data.clip.to_dict().items() if name not in _AGGREGATION}
        self._settings: dict[str, Any] = {
            "format": FORMAT,
            "farfield": version("farfield"),
            "network": {**config, "block_options": network.config["block_options"]},
            "weights": weights,
            "clip": clip,
            "decoder": data.decoder,
            "precision": precision,
            "maps": str(extractor.dtype) if extractor.with_maps else None,
        }
        self.failures: list[Failure] = []

    def plan_training(self) -> Planned:
        """Plan the features of the training videos."""
        data = self.data
        settings = self._settings | {
            "seed": data.seed,
            "augmentation": {**asdict(data.augmentation), "keep_direction": None},  # in the keys
            "pool": self.extractor.pool and list(self.extractor.pool),
        }
        keep = self._keep_direction()
        samples = range(len(data.train_manifest) * self.num_views)
        pairs = [divmod(sample, self.num_views) for sample in samples]
        keys = [video_key(data.train_manifest, row, view, int(keep[row])) for row, view in pairs]
        cache = FeatureCache(self.folder, "training", settings)
        return Planned("training", data.train_manifest, keys, cache, 1, self.num_views, True)

    def plan_test(self, name: str, manifest: Manifest, *, num_clips: int, num_crops: int) -> Planned:
        """Plan the features of validation or test videos.

        Args:
            name: "validation" or "test".
            manifest: the videos.
            num_clips: number of clips per video.
            num_crops: number of crops per clip.
        """
        settings = self._settings | {"num_clips": num_clips, "num_crops": num_crops}
        keys = [video_key(manifest, row) for row in range(len(manifest))]
        cache = FeatureCache(self.folder, f"views_{num_clips}x{num_crops}", settings)
        return Planned(name, manifest, keys, cache, num_clips * num_crops, 1, False)

    def check_space(self, planned: Sequence[Planned]) -> None:
        """Log how many features must be computed. Raise `FarfieldError` if the disk has too little space for them."""
        needed = [each.missing_bytes(self.extractor) for each in planned]
        for each, count in zip(planned, needed, strict=True):
            log.info(
                "%s: %d videos; features to compute: %d of %d %s (%s), cached in %s",
                each.name,
                len(each.manifest),
                each.num_missing,
                len(each.keys),
                "augmented clips" if each.is_training else "videos",
                as_gigabytes(count),
                each.cache.folder,
            )
        planned[0].cache.check_space(sum(needed))

    def make_training(self, planned: Planned) -> FeatureSet:
        """Return the features of the training videos; compute those that the cache lacks.

        Raises:
            FarfieldError: if no video can be read, or the cache cannot be written.
        """
        data = self.data
        dataset = AugmentedViews(
            planned.manifest,
            data.clip,
            data.augmentation,
            self._keep_direction(),
            num_views=self.num_views,
            seed=data.seed,
            decoder=data.decoder,
        )
        rows, features = self._compute(planned, dataset, data.batch_size, data.augmentation)
        of_videos = row_targets(planned.manifest, data.labels, data.task)[rows]
        flipped = features.get(FLIPPED, range(len(features))).flatten().numpy()
        targets = mirror_targets(
            np.repeat(of_videos, self.num_views, axis=0), flipped, mirrored_classes(data.labels, data.flip_labels)
        )
        return self._feature_set(planned, rows, features, targets, of_videos)

    def make_test(self, planned: Planned, *, num_clips: int, num_crops: int) -> FeatureSet:
        """Return the features of validation or test videos; compute those that the cache lacks.

        `planned` is from `plan_test` with the same `num_clips` and `num_crops`.

        Raises:
            FarfieldError: if no video can be read, or the cache cannot be written.
        """
        data = self.data
        dataset = EvaluationViews(
            planned.manifest,
            data.labels,
            data.clip,
            num_clips=num_clips,
            num_crops=num_crops,
            decoder=data.decoder,
            task=data.task,
        )
        rows, features = self._compute(planned, dataset, max(data.batch_size // planned.views, 1), None)
        targets = row_targets(planned.manifest, data.labels, data.task)[rows]
        return self._feature_set(planned, rows, features, targets, targets)

    def _compute(
        self, planned: Planned, dataset: Dataset[Batch], batch_size: int, augmentation: Augmentation | None
    ) -> tuple[list[int], CachedFeatures]:
        """Fill the cache; return the rows of the manifest that could be read, and the features of their samples."""
        self.failures += fill_cache(
            planned.cache,
            planned.keys,
            dataset,
            self.extractor,
            description=f"features of {planned.name} videos",
            augmentation=augmentation,
            batch_size=batch_size,
            num_workers=self.data.num_workers,
        )
        rows, keys = self._readable(planned)
        return rows, planned.cache.read(keys)

    def _feature_set(
        self,
        planned: Planned,
        rows: list[int],
        features: CachedFeatures,
        targets: np.ndarray,
        video_targets: np.ndarray,
    ) -> FeatureSet:
        maps = self.extractor.network.backbone.num_pathways if self.extractor.with_maps else 0
        return FeatureSet(
            features,
            torch.from_numpy(targets),
            torch.from_numpy(video_targets),
            planned.samples_per_video,
            rows,
            maps,
            self.extractor.device,
        )

    def _readable(self, planned: Planned) -> tuple[list[int], list[str]]:
        """Return the rows of the manifest whose samples are all in the cache, and the keys of these samples."""
        count = planned.samples_per_video
        of_rows = [planned.keys[begin : begin + count] for begin in range(0, len(planned.keys), count)]
        rows = [row for row, keys in enumerate(of_rows) if all(key in planned.cache for key in keys)]
        if not rows:
            path, reason, *_ = self.failures[-1]
            raise FarfieldError(
                f"none of the {planned.name} videos can be read ({len(planned.manifest)} in all). The last failure is "
                f"{path}: {reason}. Check the manifest's paths and the videos."
            )
        return rows, [key for row in rows for key in of_rows[row]]

    def _keep_direction(self) -> list[bool]:
        """Return, for each training video, True if its clips must not be mirrored."""
        kept = set(self.data.augmentation.keep_direction)
        return [bool(kept.intersection(record.labels)) for record in self.data.train_manifest]


_AGGREGATION = ("num_clips", "num_crops", "views_aggregation")
"""Clip settings that do not change the features of a view."""
