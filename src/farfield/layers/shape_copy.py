"""Copy a module to the meta device, to compute the shapes of features quickly."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from farfield.layers.fold_batch_norm import ACTIVATIONS, BATCH_NORMS
from farfield.layers.frozen_batch_norm import FrozenBatchNorm3d
from farfield.layers.meta_copy import meta_copy
from farfield.layers.sub_batch_norm import SubBatchNorm3d

SHAPE_KEEPING = (
    *(*BATCH_NORMS, FrozenBatchNorm3d, SubBatchNorm3d),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm),
    *ACTIVATIONS,
)

M = TypeVar("M", bound=nn.Module)


def shape_copy(module: M) -> M:
    """Copy a module to the meta device, with `nn.Identity` in place of norms and activations.

    Norms and activations do not change the shape, but would take most of the time on the meta device. The copy is in
    evaluation mode. Its modules have the same names as the original's.
    """
    identities: dict[nn.Module, nn.Module] = {
        each: nn.Identity() for each in module.modules() if isinstance(each, SHAPE_KEEPING)
    }
    return meta_copy(module, identities).eval()
