"""C2D, I3D, Slow and SlowFast ResNets, from PyTorchVideo's builders, with farfield's batch norm and without heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError
from farfield.layers import BatchNorm3d
from farfield.models.backbones.backbone import STAGES, Backbone, Stage, TwoPathwayBackbone
from farfield.models.backbones.dilation import dilate

Kernels = Sequence[Sequence[int]]
"""Temporal kernel length of each residual block's first convolution, in frames: one list for each of res2 .. res5.

A list that is shorter than its stage is repeated.
"""

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Number of residual blocks in res2 .. res5, by number of layers."""


@dataclass(frozen=True)
class Family:
    """Properties in which single-pathway ResNets differ, besides depth."""

    stem_kernel: int
    kernels: Kernels
    temporal_pool: bool
    """Whether a pooling after res2 halves the number of frames."""


C2D = Family(stem_kernel=1, kernels=((1,), (1,), (1,), (1,)), temporal_pool=True)
I3D = Family(stem_kernel=5, kernels=((3,), (3, 1), (3, 1), (1, 3)), temporal_pool=True)
SLOW = Family(stem_kernel=1, kernels=((1,), (1,), (3,), (3,)), temporal_pool=False)

FAMILIES = {"c2d": C2D, "i3d": I3D, "slow": SLOW}

FAST_KERNELS: Kernels = ((3,), (3,), (3,), (3,))
KERNELS_50_50: Kernels = ((1,), (1,), (3,) * 6 + (1,) * 17, (3,))
FAST_KERNELS_50_50: Kernels = ((3,), (3,), (3,) * 6 + (1,) * 17, (3,))
"""Temporal kernels of the fast pathway of SlowFast 16x8 R101; `KERNELS_50_50` has those of the slow pathway.

In res4 of both pathways, only the first six kernels are longer than 1.
"""


@dataclass(frozen=True)
class ResNetOptions:
    """Options of single-pathway ResNets. The defaults are those of the published networks.

    Args:
        width: channels of the stem; res2 .. res5 have 4, 8, 16 and 32 times as many.
        temporal_kernels: lengths of the temporal kernels in res2 .. res5, see `Kernels`; None for those of the
            published C2D, I3D or Slow.
        temporal_pool: halve the number of frames after res2; None means True in C2D and I3D, and False in Slow.
        stem_temporal_strides: temporal strides of the first convolution and of the pooling after it. They are (2, 2) in
            MMAction2's I3D, which takes 32 frames at stride 2.
        stem_pool_padding: pad the stem's pooling, as PyTorchVideo and PySlowFast do. False gives the pooling of the
            Caffe2 code of Wang et al., CVPR 2018.
        dilated: dilate the last two stages instead of striding them. The feature map then has 1/8 of the input's height
            and width.
    """

    width: int = 64
    temporal_kernels: Kernels | None = None
    temporal_pool: bool | None = None
    stem_temporal_strides: Sequence[int] = (1, 1)
    stem_pool_padding: bool = True
    dilated: bool = False


@dataclass(frozen=True)
class SlowFastOptions:
    """Options of SlowFast networks.

    Args:
        width: channels of the slow pathway's stem.
        alpha: frames of the fast pathway for each frame of the slow pathway.
        beta_inv: channels of the slow pathway for each channel of the fast pathway.
        fusion_ratio: channels fused into the slow pathway for each channel of the fast pathway.
        fusion_kernel: temporal kernel length of the convolutions from the fast to the slow pathway.
        temporal_kernels: lengths of the slow pathway's temporal kernels, see `Kernels`; None for 1, 1, 3 and 3 in the
            blocks of res2, res3, res4 and res5.
        fast_temporal_kernels: lengths of the fast pathway's temporal kernels; None for 3 in every block.
        dilated: dilate the last two stages of both pathways instead of striding them.
    """

    width: int = 64
    alpha: int = 4
    beta_inv: int = 8
    fusion_ratio: int = 2
    fusion_kernel: int = 5
    temporal_kernels: Kernels | None = None
    fast_temporal_kernels: Kernels | None = None
    dilated: bool = False


SLOWFAST_DEFAULTS: dict[str, dict[str, Any]] = {
    "slowfast_r50": {"fusion_kernel": 7},
    "slowfast_r101": {},
    "slowfast_16x8_r101": {"temporal_kernels": KERNELS_50_50, "fast_temporal_kernels": FAST_KERNELS_50_50},
}
"""Options in which the published SlowFast networks differ from the defaults of `SlowFastOptions`."""


def c2d_r50(**options: Any) -> Backbone:
    """Build C2D, a ResNet-50 of 2D kernels with one pooling over time, after res2. Wang et al., CVPR 2018, table 1."""
    return _resnet(C2D, 50, ResNetOptions(**options))


def c2d_r101(**options: Any) -> Backbone:
    """Build C2D with 101 layers. Wang et al., CVPR 2018, section 4."""
    return _resnet(C2D, 101, ResNetOptions(**options))


def i3d_r50(**options: Any) -> Backbone:
    """Build I3D, a ResNet-50 inflated to 3x1x1 kernels. Wang et al., CVPR 2018, section 4.

    The first convolution of every block of res2, and of every other block of res3 to res5, has a 3x1x1 kernel.
    """
    return _resnet(I3D, 50, ResNetOptions(**options))


def i3d_r101(**options: Any) -> Backbone:
    """Build I3D with 101 layers. Wang et al., CVPR 2018, section 4."""
    return _resnet(I3D, 101, ResNetOptions(**options))


def slow_r50(**options: Any) -> Backbone:
    """Build the Slow pathway alone, for 8 frames at stride 8. Feichtenhofer et al., "SlowFast Networks", ICCV 2019.

    The 4x16 variant is the same network on other clips. For it, pass clip={"num_frames": 4, "frame_stride": 16} to
    `farfield.build_model`.
    """
    return _resnet(SLOW, 50, ResNetOptions(**options))


def slow_r101(**options: Any) -> Backbone:
    """Build the Slow pathway alone, with 101 layers. Feichtenhofer et al., "SlowFast Networks", ICCV 2019."""
    return _resnet(SLOW, 101, ResNetOptions(**options))


def slowfast_r50(**options: Any) -> TwoPathwayBackbone:
    """Build SlowFast 8x8, ResNet-50, 32 frames at stride 2. Feichtenhofer et al., "SlowFast Networks", ICCV 2019.

    The 4x16 variant has alpha=8 and fusion_kernel=5.
    """
    return _slowfast(50, SlowFastOptions(**SLOWFAST_DEFAULTS["slowfast_r50"] | options), num_frames=32)


def slowfast_r101(**options: Any) -> TwoPathwayBackbone:
    """Build SlowFast 8x8, ResNet-101, 32 frames at stride 2. Feichtenhofer et al., "SlowFast Networks", ICCV 2019."""
    return _slowfast(101, SlowFastOptions(**options), num_frames=32)


def slowfast_16x8_r101(**options: Any) -> TwoPathwayBackbone:
    """Build SlowFast 16x8, ResNet-101, 64 frames at stride 2. Feichtenhofer et al., "SlowFast Networks", ICCV 2019.

    In res4 of both pathways, only the first 6 of the 23 blocks have temporal kernels longer than 1. Six is the number
    of blocks in res4 of a ResNet-50. The other stages have the kernels of `slowfast_r101`.
    """
    return _slowfast(101, SlowFastOptions(**SLOWFAST_DEFAULTS["slowfast_16x8_r101"] | options), num_frames=64)


def spelled_out(kernels: Kernels, depths: Sequence[int]) -> list[list[int]]:
    """Return the temporal kernel length, in frames, of each residual block of each stage.

    A list of `kernels` that is shorter than its stage is repeated. Of a longer list, only the first lengths are used.

    Args:
        kernels: one list of odd kernel lengths for each of res2 .. res5.
        depths: number of residual blocks in each of res2 .. res5.

    Raises:
        FarfieldError: if `kernels` is not four non-empty lists of odd numbers.
    """
    if len(kernels) != 4 or any(not stage or any(k < 1 or k % 2 == 0 for k in stage) for stage in kernels):
        raise FarfieldError(
            f"temporal_kernels is {kernels}; give a list of odd kernel lengths for each of res2 to res5, e.g. "
            "[[3], [3, 1], [3, 1], [1, 3]]. A list shorter than its stage is repeated."
        )
    return [[stage[i % len(stage)] for i in range(depth)] for stage, depth in zip(kernels, depths, strict=True)]


def _resnet(family: Family, depth: int, options: ResNetOptions) -> Backbone:
    from pytorchvideo.models.resnet import create_resnet

    width = options.width
    conv_stride, pool_stride = options.stem_temporal_strides
    pooled = family.temporal_pool if options.temporal_pool is None else options.temporal_pool
    network = create_resnet(
        model_depth=depth,
        norm=BatchNorm3d,
        stem_dim_out=width,
        stem_conv_kernel_size=(family.stem_kernel, 7, 7),
        stem_conv_stride=(conv_stride, 2, 2),
        stem_pool_stride=(pool_stride, 2, 2),
        stage1_pool=nn.MaxPool3d if pooled else None,
        stage_conv_a_kernel_size=_conv_a(options.temporal_kernels or family.kernels, depth),
        head=None,
    )
    if not options.stem_pool_padding:
        network.blocks[0].pool.padding = (0, 0, 0)
    stages = {
        name: Stage.within(f"blocks.{i + 1 + int(pooled and i > 0)}.res_blocks", (width * 4 * 2**i,) * count)
        for i, (name, count) in enumerate(zip(STAGES, DEPTHS[depth], strict=True))
    }
    frames = 8 * conv_stride * pool_stride
    clip = ClipSpec(num_frames=frames, crop_px=224, frame_stride=64 // frames)
    backbone = Backbone(network, stages, clip, out_channels=width * 32)
    backbone.pooled_frames = 2 * conv_stride * pool_stride if pooled else 0
    return dilate(backbone) if options.dilated else backbone


def _slowfast(depth: int, options: SlowFastOptions, *, num_frames: int) -> TwoPathwayBackbone:
    from pytorchvideo.models.slowfast import create_slowfast

    width, beta_inv = options.width, options.beta_inv
    if width % beta_inv:
        raise FarfieldError(f"width is {width} and beta_inv is {beta_inv}; width must be divisible by beta_inv.")
    kernels = options.temporal_kernels or SLOW.kernels
    fast_kernels = options.fast_temporal_kernels or FAST_KERNELS
    network = create_slowfast(
        model_depth=depth,
        norm=BatchNorm3d,
        slowfast_channel_reduction_ratio=(beta_inv,),
        slowfast_conv_channel_fusion_ratio=options.fusion_ratio,
        slowfast_fusion_conv_kernel_size=(options.fusion_kernel, 1, 1),
        slowfast_fusion_conv_stride=(options.alpha, 1, 1),
        stem_dim_outs=(width, width // beta_inv),
        stage_conv_a_kernel_sizes=(_conv_a(kernels, depth), _conv_a(fast_kernels, depth)),
        head=None,
    )
    del network.blocks[-1]  # pooling
    stages = {
        f"{prefix}{name}": Stage.within(
            f"blocks.{i + 1}.multipathway_blocks.{pathway}.res_blocks", (channels * 4 * 2**i,) * count
        )
        for pathway, (prefix, channels) in enumerate((("", width), ("fast_", width // beta_inv)))
        for i, (name, count) in enumerate(zip(STAGES, DEPTHS[depth], strict=True))
    }
    clip = ClipSpec(num_frames=num_frames, crop_px=224, frame_stride=2)
    out_channels = width * 32 + width // beta_inv * 32
    backbone = TwoPathwayBackbone(network, stages, clip, out_channels=out_channels, alpha=options.alpha)
    return dilate(backbone) if options.dilated else backbone


def _conv_a(kernels: Kernels, depth: int) -> list[list[tuple[int, int, int]]]:
    return [[(k, 1, 1) for k in stage] for stage in spelled_out(kernels, DEPTHS[depth])]
