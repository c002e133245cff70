"""Networks small enough to train on two CPU cores in minutes."""

from __future__ import annotations

from torch import nn

from farfield.clip_spec import ClipSpec
from farfield.layers import BatchNorm3d
from farfield.models.backbones.backbone import STAGES, Backbone, Stage
from farfield.models.backbones.dilation import dilate


def tiny(*, depth: int = 2, dilated: bool = False) -> Backbone:
    """Build an I3D-like network small enough to train on two CPU cores in minutes.

    The temporal kernel has 5 frames in the stem, as in I3D, and 3 in every other bottleneck block. No layer has a
    temporal stride. With two blocks per stage, the temporal receptive field is 1 + 4 + 4 * 2 = 13 frames.

    Args:
        depth: number of bottleneck blocks per stage.
        dilated: dilate res4 and res5 instead of striding them.
    """
    return _tiny(stem_kernel=5, block_kernel=3, depth=depth, dilated=dilated)


def tiny_c2d(*, depth: int = 2, dilated: bool = False) -> Backbone:
    """Build `tiny` without temporal kernels: each frame is processed separately, and the head averages the features."""
    return _tiny(stem_kernel=1, block_kernel=1, depth=depth, dilated=dilated)


def _tiny(*, stem_kernel: int, block_kernel: int, depth: int, dilated: bool) -> Backbone:
    from pytorchvideo.models.net import Net
    from pytorchvideo.models.resnet import create_bottleneck_block, create_res_stage
    from pytorchvideo.models.stem import create_res_basic_stem

    if depth < 1:
        raise ValueError(f"depth is {depth}; it must be at least 1")
    kernels = [block_kernel if i % 2 == 0 else 1 for i in range(depth)]
    widths = (32, 64, 128, 256)
    stem = create_res_basic_stem(
        in_channels=3,
        out_channels=16,
        conv_kernel_size=(stem_kernel, 5, 5),
        conv_stride=(1, 2, 2),
        conv_padding=(stem_kernel // 2, 2, 2),
        norm=BatchNorm3d,
    )
    blocks = [stem]
    dim_in = 16
    for i, dim_out in enumerate(widths):
        blocks.append(
            create_res_stage(
                depth=depth,
                dim_in=dim_in,
                dim_inner=dim_out // 2,  # wide, because it holds the temporal kernels
                dim_out=dim_out,
                bottleneck=create_bottleneck_block,
                conv_a_kernel_size=[(k, 1, 1) for k in kernels],
                conv_a_stride=(1, 1, 1),
                conv_a_padding=[(k // 2, 0, 0) for k in kernels],
                conv_b_stride=(1, 1, 1) if i == 0 else (1, 2, 2),
                norm=BatchNorm3d,
            )
        )
        dim_in = dim_out
    stages = {
        name: Stage.within(f"blocks.{i + 1}.res_blocks", (width,) * depth)
        for i, (name, width) in enumerate(zip(STAGES, widths, strict=True))
    }
    clip = ClipSpec(num_frames=8, crop_px=56, frame_stride=6, num_clips=2, num_crops=1)
    backbone = Backbone(Net(blocks=nn.ModuleList(blocks)), stages, clip, out_channels=widths[-1])
    return dilate(backbone) if dilated else backbone
