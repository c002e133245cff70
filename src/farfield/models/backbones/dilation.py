"""Stages dilated instead of strided, for a feature map of higher resolution with the same weights.

The self-attention papers (DANet, CCNet, OCRNet) work on a map of 1/8 of the input: the last two stages give up their
spatial strides, and later kernels widen by as much ("a trous"; Yu et al., "Dilated Residual Networks", CVPR 2017).
At every fourth position the dilated network computes what the strided one does.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from farfield.errors import FarfieldError
from farfield.models.backbones.backbone import Backbone

DILATED = ("res4", "res5")

B = TypeVar("B", bound=Backbone)


def dilate(backbone: B) -> B:
    """Dilates the last two stages of every pathway, in place; before anything is inserted.

    Raises:
        FarfieldError: for a network whose strides are not in the convolutions of residual blocks.
    """
    for prefix in {name.removesuffix("res4") for name in backbone.stage_specs if name.endswith("res4")}:
        dilation = 1
        for stage in DILATED:
            for block in backbone.blocks(prefix + stage):
                dilation = _dilate_block(block, dilation)
        if dilation != 4:
            raise FarfieldError("this network has no dilated form: its strides are not in its residual blocks.")
    return backbone


def _dilate_block(block: nn.Module, dilation: int) -> int:
    """Takes the spatial strides out of a block; returns the dilation for what comes after it."""
    strided = 1
    for conv in (m for m in block.modules() if isinstance(m, nn.Conv3d)):
        stride, kernel = conv.stride[1], conv.kernel_size[1]
        conv.stride = (conv.stride[0], 1, 1)
        if kernel > 1:
            # A strided convolution sees its input as before; what follows it sees positions `stride` times as dense.
            conv.dilation = (conv.dilation[0], dilation * strided, dilation * strided)
            conv.padding = (conv.padding[0], *(dilation * strided * (kernel // 2),) * 2)  # type: ignore[assignment]
            strided *= stride
    return dilation * strided
