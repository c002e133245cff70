"""Tuples of normalisation layer classes, for use with `isinstance`; and the error of batches too small for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from farfield.errors import FarfieldError
from farfield.layers import SubBatchNorm3d

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Batch norms with running statistics. The `BatchNorm` classes of `farfield.layers` are subclasses of these."""

INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, SubBatchNorm3d, nn.GroupNorm, nn.LayerNorm)
"""Normalisation layers; their parameters get no weight decay."""


@contextmanager
def small_batches_as_ours() -> Iterator[None]:
    """Convert PyTorch's error that a batch norm gets a single value per channel to a `FarfieldError`."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise FarfieldError(
            "a batch norm gets a single value per channel, which has no variance to normalise by: a batch of one clip, "
            "whose features have one position. Raise data.batch_size (up to the number of training videos), "
            "clip.num_frames or clip.crop_px, or set optimisation.freeze_batch_norm."
        ) from error
