"""Tuples of normalisation layer classes, for use with `isinstance`."""

from __future__ import annotations

from torch import nn

from farfield.layers import SubBatchNorm3d

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Batch norms with running statistics. The `BatchNorm` classes of `farfield.layers` are subclasses of these."""

INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, SubBatchNorm3d, nn.GroupNorm, nn.LayerNorm)
"""Normalisation layers; their parameters get no weight decay."""
