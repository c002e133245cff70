"""Networks with factorised or depthwise 3D convolutions, from PyTorchVideo's builders: CSN, R(2+1)D and X3D."""

from __future__ import annotations

from typing import Any

from torch import nn

from farfield.clip_spec import ClipSpec
from farfield.layers import BatchNorm3d
from farfield.models.backbones.backbone import STAGES, Backbone, Stage
from farfield.models.backbones.dilation import dilate
from farfield.models.backbones.resnets import DEPTHS


def csn_r101(*, dilated: bool = False) -> Backbone:
    """Build CSN-101, whose 3x3x3 kernels are all depthwise, for 32 frames at stride 2. Tran et al., ICCV 2019."""
    from pytorchvideo.models.csn import create_csn

    network = create_csn(model_depth=101, norm=BatchNorm3d, stem_pool=nn.MaxPool3d)
    return _bottlenecks(network, 101, ClipSpec(num_frames=32, crop_px=224, frame_stride=2), dilated=dilated)


def r2plus1d_r50(*, dilated: bool = False) -> Backbone:
    """Build R(2+1)D-50: kernels factorised into 1x3x3 and 3x1x1, for 16 frames at stride 4. Tran et al., CVPR 2018."""
    from pytorchvideo.models.r2plus1d import create_r2plus1d

    network = create_r2plus1d(norm=BatchNorm3d)
    return _bottlenecks(network, 50, ClipSpec(num_frames=16, crop_px=224, frame_stride=4), dilated=dilated)


def x3d_xs(*, norm_on_first_shortcut: bool = False, dilated: bool = False) -> Backbone:
    """Build X3D-XS, for 4 frames at stride 12, 160 px. Feichtenhofer, "X3D", CVPR 2020.

    Args:
        norm_on_first_shortcut: add a batch norm after the shortcut convolution of res2's first block. PySlowFast's X3D
            has this norm; PyTorchVideo's does not.
        dilated: dilate the last two stages instead of striding them.
    """
    clip = ClipSpec(num_frames=4, crop_px=160, frame_stride=12, short_side_px=182)
    return _x3d(clip, norm_on_first_shortcut=norm_on_first_shortcut, dilated=dilated)


def x3d_s(*, norm_on_first_shortcut: bool = False, dilated: bool = False) -> Backbone:
    """Build X3D-S, for 13 frames at stride 6, 160 px, with the options of `x3d_xs`."""
    clip = ClipSpec(num_frames=13, crop_px=160, frame_stride=6, short_side_px=182)
    return _x3d(clip, norm_on_first_shortcut=norm_on_first_shortcut, dilated=dilated)


def x3d_m(*, norm_on_first_shortcut: bool = False, dilated: bool = False) -> Backbone:
    """Build X3D-M, for 16 frames at stride 5, 224 px, with the options of `x3d_xs`."""
    clip = ClipSpec(num_frames=16, crop_px=224, frame_stride=5)
    return _x3d(clip, norm_on_first_shortcut=norm_on_first_shortcut, dilated=dilated)


def x3d_l(*, norm_on_first_shortcut: bool = False, dilated: bool = False) -> Backbone:
    """Build X3D-L, for 16 frames at stride 5, 312 px, with the options of `x3d_xs`.

    X3D-XS, X3D-S and X3D-M have the same number of blocks; X3D-L has more than twice that number.
    """
    clip = ClipSpec(num_frames=16, crop_px=312, frame_stride=5, short_side_px=356)
    return _x3d(clip, depth_factor=5.0, norm_on_first_shortcut=norm_on_first_shortcut, dilated=dilated)


def _bottlenecks(network: nn.Module, depth: int, clip: ClipSpec, *, dilated: bool) -> Backbone:
    blocks = network.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleList)
    del blocks[-1]
    stages = {
        name: Stage.within(f"blocks.{i + 1}.res_blocks", (256 * 2**i,) * count)
        for i, (name, count) in enumerate(zip(STAGES, DEPTHS[depth], strict=True))
    }
    backbone = Backbone(network, stages, clip, out_channels=2048)
    return dilate(backbone) if dilated else backbone


def _x3d(clip: ClipSpec, *, depth_factor: float = 2.2, norm_on_first_shortcut: bool, dilated: bool) -> Backbone:
    from pytorchvideo.models.x3d import create_x3d

    network = create_x3d(norm=BatchNorm3d, depth_factor=depth_factor)
    head = network.blocks[-1].pool
    # Layers before the pooling belong to the trunk, those after it to the head.
    before: Any = nn.Sequential()
    for name in ("pre_conv", "pre_norm", "pre_act"):
        before.add_module(name, head.get_submodule(name))
    after: Any = nn.Sequential()
    for name in ("post_conv", "post_act"):
        after.add_module(name, head.get_submodule(name))
    network.blocks[-1] = before
    stages = {}
    for i, name in enumerate(STAGES):
        blocks = network.blocks[i + 1].res_blocks
        stages[name] = Stage.within(f"blocks.{i + 1}.res_blocks", [b.branch2.conv_c.out_channels for b in blocks])
    if norm_on_first_shortcut:
        shortcut = network.blocks[1].res_blocks[0]
        shortcut.branch1_norm = BatchNorm3d(shortcut.branch1_conv.out_channels)
    backbone = Backbone(
        network,
        stages,
        clip,
        out_channels=before.pre_conv.out_channels,
        embedding=lambda: after,
        head_channels=after.post_conv.out_channels,
    )
    return dilate(backbone) if dilated else backbone
