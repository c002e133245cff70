"""Copy a module to compute the shapes of features, quickly."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from farfield.layers.fold_batch_norm import BATCH_NORMS
from farfield.layers.meta_copy import meta_copy
from farfield.layers.replace_modules import replace_modules

SHAPE_KEEPING = (
    *BATCH_NORMS,
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm),
    *(nn.ReLU, nn.SiLU, nn.GELU, nn.Sigmoid),
)

M = TypeVar("M", bound=nn.Module)


def shape_copy(module: M) -> M:
    """Copy a module in evaluation mode to the meta device, with `nn.Identity` for norms and activations.

    These keep the shape of their input, and their meta kernels take most of the time. The copy's modules have the names
    of the original's.
    """
    return replace_modules(  # type: ignore[return-value]  # the copy itself, unless it is a single norm or activation
        meta_copy(module).eval(), lambda each: nn.Identity() if isinstance(each, SHAPE_KEEPING) else None
    )
