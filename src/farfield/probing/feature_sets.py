"""Compute or read from the cache the features of training, validation and test videos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farfield.data.datamodule import VideoDataModule
from farfield.data.datasets import EvaluationViews, Failure
from farfield.data.manifest import Manifest
from farfield.data.mirrored_labels import mirror_targets, mirrored_classes
from farfield.data.targets import row_targets
from farfield.errors import FarfieldError
from farfield.probing.extraction import FLIPPED, Extractor, fill_cache
from farfield.probing.feature_cache import FeatureCache, as_gigabytes
from farfield.probing.training_set import FeatureSet
from farfield.probing.views import AugmentedViews, video_key

log = logging.getLogger("farfield")

FORMAT = 1
"""Incremented when features or keys change, so that older features are not used."""


@dataclass
class Planned:
    """Features of the videos of a manifest, some of which may be in the cache.

    Attributes:
        name: what the videos are for, for messages.
        manifest: the videos.
        keys: key of each sample.
        cache: where the features are.
        views: number of views of a sample.
    """

    name: str
    manifest: Manifest
    keys: list[str]
    cache: FeatureCache
    views: int
    is_training: bool

    def missing_bytes(self, extractor: Extractor) -> int:
        """Return the number of bytes that the cache lacks."""
        missing = sum(key not in self.cache for key in self.keys)
        return missing * extractor.row_bytes(views=self.views, training=self.is_training) if missing else 0


class FeatureMaker:
    """Makes the feature sets of a probe.

    Args:
        data: training and validation videos, and how clips are read.
        extractor: computes features.
        folder: folder of the cache.
        num_views: number of views of each training video.
        precision: number format in which the network runs, as Lightning names it.
        weights: hash of the network's weights, from `weights_hash`.

    Raises:
        FarfieldError: if the folder cannot be written.
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
        """Return what is needed of the training videos."""
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
        return Planned("training", data.train_manifest, keys, cache, 1, True)

    def plan_test(self, name: str, manifest: Manifest, *, num_clips: int, num_crops: int) -> Planned:
        """Return what is needed of validation or test videos."""
        settings = self._settings | {"num_clips": num_clips, "num_crops": num_crops}
        keys = [video_key(manifest, row) for row in range(len(manifest))]
        cache = FeatureCache(self.folder, f"views_{num_clips}x{num_crops}", settings)
        return Planned(name, manifest, keys, cache, num_clips * num_crops, False)

    def check_space(self, planned: Sequence[Planned]) -> None:
        """Log how much is to be computed, and check that the disk has room for it."""
        needed = [each.missing_bytes(self.extractor) for each in planned]
        for each, count in zip(planned, needed, strict=True):
            missing = sum(key not in each.cache for key in each.keys)
            log.info(
                "%s: %d videos, features of %d of %d samples to compute, %s in %s",
                each.name,
                len(each.manifest),
                missing,
                len(each.keys),
                as_gigabytes(count),
                each.cache.folder,
            )
        planned[0].cache.check_space(sum(needed))

    def make_training(self, planned: Planned) -> FeatureSet:
        """Compute the features of the training videos that the cache lacks.

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
        self.failures += fill_cache(
            planned.cache,
            planned.keys,
            dataset,
            self.extractor,
            description=f"features of {planned.name} videos",
            augmentation=data.augmentation,
            batch_size=data.batch_size,
            num_workers=data.num_workers,
        )
        rows, kept = self._readable(planned, self.num_views)
        features = planned.cache.read([planned.keys[sample] for sample in kept])
        of_videos = row_targets(planned.manifest, data.labels, data.task)[rows]
        flipped = features.get(FLIPPED, range(len(kept))).flatten().numpy()
        mirrored = mirrored_classes(data.labels, data.flip_labels)
        targets = mirror_targets(np.repeat(of_videos, self.num_views, axis=0), flipped, mirrored)
        return self._feature_set(features, targets, of_videos, self.num_views, rows)

    def make_test(self, planned: Planned, *, num_clips: int, num_crops: int) -> FeatureSet:
        """Compute the features of validation or test videos that the cache lacks.

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
        self.failures += fill_cache(
            planned.cache,
            planned.keys,
            dataset,
            self.extractor,
            description=f"features of {planned.name} videos",
            batch_size=max(data.batch_size // planned.views, 1),
            num_workers=data.num_workers,
        )
        rows, kept = self._readable(planned, 1)
        features = planned.cache.read([planned.keys[sample] for sample in kept])
        targets = row_targets(planned.manifest, data.labels, data.task)[rows]
        return self._feature_set(features, targets, targets, 1, rows)

    def _feature_set(
        self, features: Any, targets: np.ndarray, of_videos: np.ndarray, rows_per_video: int, rows: list[int]
    ) -> FeatureSet:
        maps = self.extractor.network.backbone.num_pathways if self.extractor.with_maps else 0
        row_labels, video_labels = torch.from_numpy(targets), torch.from_numpy(of_videos)
        return FeatureSet(features, row_labels, video_labels, rows_per_video, rows, maps, self.extractor.device)

    def _readable(self, planned: Planned, samples_per_video: int) -> tuple[list[int], list[int]]:
        """Return the rows of the manifest whose samples are all in the cache, and these samples."""
        rows = [
            row
            for row in range(len(planned.manifest))
            if all(planned.keys[row * samples_per_video + view] in planned.cache for view in range(samples_per_video))
        ]
        if not rows:
            path, reason, *_ = self.failures[-1]
            raise FarfieldError(
                f"none of the {len(planned.manifest)} {planned.name} videos can be read. The last failure is {path}: "
                f"{reason}. Check the manifest's paths and the videos."
            )
        return rows, [row * samples_per_video + view for row in rows for view in range(samples_per_video)]

    def _keep_direction(self) -> list[bool]:
        """Return for each training video whether its clips must not be mirrored."""
        kept = set(self.data.augmentation.keep_direction)
        return [bool(kept.intersection(record.labels)) for record in self.data.train_manifest]


_AGGREGATION = ("num_clips", "num_crops", "views_aggregation")
"""Clip settings that do not change the features of a view."""
