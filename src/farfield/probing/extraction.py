"""Compute the features of a frozen network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from farfield.data.augmentation import Augmentation
from farfield.data.batch_loader import batch_loader
from farfield.data.datasets import Batch, Failure
from farfield.data.transforms import network_input
from farfield.errors import FarfieldError
from farfield.models.inference_optimization import optimize_for_inference
from farfield.models.network import ActionNet
from farfield.probing.feature_cache import FeatureCache
from farfield.probing.options import FeatureType
from farfield.probing.views import Batches
from farfield.progress import ProgressBar

VIEWS_AT_ONCE = 16
"""Views per forward pass, as in a test."""
VECTORS, FLIPPED = "vectors", "flipped"


class Extractor:
    """Computes features of clips: the classifier's input, and the maps that the head pools.

    Args:
        network: network with the head "gap_fc". It is not changed.
        device: where to compute.
        forward_context: function that returns a context manager for each forward pass, such as autocast.
        with_maps: whether to compute the maps, too.
        dtype: number format of the maps.
        pool: maximum size (t h w) of the maps of training clips; larger maps are average-pooled to it. None for no
            pooling.
    """

    def __init__(
        self,
        network: ActionNet,
        *,
        device: torch.device,
        forward_context: Callable[[], AbstractContextManager[Any]],
        with_maps: bool,
        dtype: FeatureType = "float32",
        pool: Sequence[int] | None = None,
    ) -> None:
        self.network = optimize_for_inference(network.eval()).to(device)
        self.device = device
        self.forward_context = forward_context
        self.with_maps = with_maps
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.pool = pool

    @torch.no_grad()
    def __call__(self, clips: Float[Tensor, "b 3 t h w"], *, training: bool) -> dict[str, Tensor]:
        """Compute the features of clips.

        Args:
            clips: normalised clips.
            training: whether these are training clips, whose maps are pooled to the extractor's `pool`.

        Returns:
            "vectors" (b c) in float32. With maps, also "map0" (b c t h w) and, for a second pathway, "map1".

        Raises:
            FarfieldError: if a vector has a value that is NaN or infinite, or a map has a value that is infinite after
                conversion to the extractor's `dtype` (float16 cannot hold values above 65504).
        """
        with self.forward_context():
            maps = self.network.backbone(clips)
            vectors = self.network.head.embed(maps)[:, 0]
        found = {VECTORS: vectors.float()}
        if not found[VECTORS].isfinite().all():
            raise FarfieldError("the network computes NaN or infinite features. Check its weights.")
        for place, each in enumerate(maps if isinstance(maps, list) else [maps]) if self.with_maps else ():
            whole = each.float()
            if training and self.pool is not None:
                t, h, w = (min(most, given) for most, given in zip(self.pool, whole.shape[2:], strict=True))
                whole = F.adaptive_avg_pool3d(whole, (t, h, w))
            found[f"map{place}"] = whole.to(self.dtype, memory_format=torch.contiguous_format)
            if found[f"map{place}"].isinf().any():
                raise FarfieldError("the network's features are too large for float16. Set probe.dtype to float32.")
        return found

    def row_bytes(self, *, views: int, training: bool) -> int:
        """Return the size, in bytes, of the features of one sample.

        Args:
            views: number of views (clips) of the sample.
            training: whether they are training clips; otherwise they are test clips.
        """
        clip = self.network.clip
        side = clip.crop_px if training else clip.test_side_px
        example = torch.zeros(1, 3, clip.num_frames, side, side, device=self.device)
        return views * sum(each.nbytes for each in self(example, training=training).values())


def fill_cache(
    cache: FeatureCache,
    keys: Sequence[str],
    dataset: Dataset[Batch],
    extractor: Extractor,
    *,
    description: str,
    augmentation: Augmentation | None = None,
    batch_size: int,
    num_workers: int,
) -> list[Failure]:
    """Compute the features of all samples that the cache lacks. After an interrupt, computed features are kept.

    Args:
        cache: cache to fill.
        keys: key of each sample of the dataset.
        dataset: dataset whose `__getitem__` takes the indices of several samples, and returns them as a `Batch`.
        extractor: computes the features.
        description: text beside the progress bar.
        augmentation: augmentation of training clips; None for test views.
        batch_size: samples in a batch.
        num_workers: number of processes that decode; 0 decodes in the main process.

    Returns:
        A `Failure` for each sample whose video could not be read. A video may be listed several times.

    Raises:
        FarfieldError: if the cache cannot be written.
        KeyboardInterrupt: if interrupted.
    """
    missing = [sample for sample, key in enumerate(keys) if key not in cache]
    if not missing:
        return []
    failures: list[Failure] = []
    spec = extractor.network.clip
    bar = ProgressBar(desc=description, total=len(keys), initial=len(keys) - len(missing), unit="sample")
    try:
        for batch in batch_loader(dataset, Batches(missing, batch_size), min(num_workers, len(missing))):
            failures += batch.failures
            bar.update(len(batch.failures) + len(batch.indices))
            if not len(batch.indices):
                continue
            batch = move_data_to_device(batch, extractor.device)
            clips = network_input(batch.clips, spec, draw=batch.draw, augmentation=augmentation)
            parts = [extractor(part, training=augmentation is not None) for part in clips.split(VIEWS_AT_ONCE)]
            found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            if augmentation is not None:
                flip = None if batch.draw is None else batch.draw.flip
                found[FLIPPED] = torch.zeros(len(clips), dtype=torch.bool) if flip is None else flip
            samples = batch.indices.tolist()
            found = {name: value.unflatten(0, (len(samples), -1)) for name, value in found.items()}
            for place, sample in enumerate(samples):
                cache.add(keys[sample], {name: value[place] for name, value in found.items()})
    except KeyboardInterrupt:
        cache.flush()
        raise
    finally:
        bar.close()
    cache.flush()
    return failures


def weights_hash(network: ActionNet) -> str:
    """Return a hash of all weights on which features depend, that is, all except the classifier's."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if not name.startswith("head.fc."):
            digest.update(name.encode() + str((value.dtype, tuple(value.shape))).encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
