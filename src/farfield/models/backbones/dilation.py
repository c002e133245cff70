"""Replace strides by dilation, which gives a feature map of higher resolution with the same weights.

The self-attention papers (DANet, CCNet, OCRNet) use a feature map of 1/8 of the input's height and width. For this, the
spatial strides of the last two stages are removed, and the kernels after each removed stride are dilated instead ("a
trous"; Yu et al., "Dilated Residual Networks", CVPR 2017). At every fourth row and column the dilated network computes
the same features as the strided network.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from farfield.errors import FarfieldError
from farfield.models.backbones.backbone import Backbone

DILATED = ("res4", "res5")

B = TypeVar("B", bound=Backbone)


def dilate(backbone: B) -> B:
    """Replace the strides of the last two stages by dilation, in every pathway, in place.

    Call this function before blocks are inserted.

    Raises:
        FarfieldError: if the network's strides are not in the convolutions of its residual blocks.
    """
    for prefix in {name.removesuffix("res4") for name in backbone.stage_specs if name.endswith("res4")}:
        dilation = 1
        for stage in DILATED:
            for block in backbone.blocks(prefix + stage):
                dilation = _dilate_block(block, dilation)
        if dilation != 4:
            raise FarfieldError(
                "this network cannot be dilated: its strides are not in its residual blocks. Leave 'dilated' out."
            )
    return backbone


def _dilate_block(block: nn.Module, dilation: int) -> int:
    """Replace a residual block's spatial strides by dilation, in place.

    Args:
        block: block to change.
        dilation: product of the strides that were removed before this block.

    Returns:
        Product of all strides removed so far, including this block's.
    """
    strided = 1
    for conv in (m for m in block.modules() if isinstance(m, nn.Conv3d)):
        stride, kernel = conv.stride[1], conv.kernel_size[1]
        conv.stride = (conv.stride[0], 1, 1)
        if kernel > 1:
            # A strided convolution's input is unchanged; the input of later ones is `stride` times as dense.
            conv.dilation = (conv.dilation[0], dilation * strided, dilation * strided)
            conv.padding = (conv.padding[0], *(dilation * strided * (kernel // 2),) * 2)  # type: ignore[assignment]
            strided *= stride
    return dilation * strided
