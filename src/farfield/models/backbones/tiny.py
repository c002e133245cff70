"""Networks small enough to train on two CPU cores in minutes."""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipSpec
from farfield.layers import BatchNorm3d
from farfield.models.backbones.backbone import STAGES, Backbone, Stage
from farfield.models.backbones.dilation import dilate


def tiny(*, depth: int = 2, width: float = 1.0, dilated: bool = False) -> Backbone:
    """Build an I3D-like network small enough to train on two CPU cores in minutes.

    The temporal kernel has 5 frames in the stem, as in I3D. In the bottleneck blocks it alternates between 3 frames
    and 1. No layer has a temporal stride. With two blocks in each of the four stages, the temporal receptive field is
    1 + 4 + 4 * 2 = 13 frames: the stem adds 4, and each stage adds 2.

    Args:
        depth: number of bottleneck blocks per stage.
        width: factor that multiplies the number of channels of every layer, from 1/8 to 64.
        dilated: dilate res4 and res5 instead of striding them.
    """
    return _tiny(stem_kernel=5, block_kernel=3, depth=depth, width=width, dilated=dilated)


def tiny_c2d(*, depth: int = 2, width: float = 1.0, dilated: bool = False) -> Backbone:
    """Build `tiny` without temporal kernels: each frame is processed separately, and the head averages the features."""
    return _tiny(stem_kernel=1, block_kernel=1, depth=depth, width=width, dilated=dilated)


def _tiny(*, stem_kernel: int, block_kernel: int, depth: int, width: float, dilated: bool) -> Backbone:
    if depth < 1:
        raise ValueError(f"depth is {depth}; it must be at least 1")
    if not 1 / 8 <= width <= 64:
        raise ValueError(f"width is {width}; it must be from 1/8 to 64")
    kernels = [block_kernel if i % 2 == 0 else 1 for i in range(depth)]
    stem_width, *widths = (round(channels * width) for channels in (16, 32, 64, 128, 256))
    blocks: list[nn.Module] = [_stem(stem_width, stem_kernel)]
    dim_in = stem_width
    for i, dim_out in enumerate(widths):
        residual_blocks = [
            _ResidualBlock(dim_in if j == 0 else dim_out, dim_out, kernel, stride=2 if i > 0 and j == 0 else 1)
            for j, kernel in enumerate(kernels)
        ]
        blocks.append(nn.Sequential(OrderedDict(res_blocks=nn.Sequential(*residual_blocks))))
        dim_in = dim_out
    trunk = nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))
    _initialise(trunk)
    stages = {
        name: Stage.within(f"blocks.{i + 1}.res_blocks", (channels,) * depth)
        for i, (name, channels) in enumerate(zip(STAGES, widths, strict=True))
    }
    clip = ClipSpec(num_frames=8, crop_px=56, frame_stride=6, num_clips=2, num_crops=1)
    backbone = Backbone(trunk, stages, clip, out_channels=widths[-1])
    return dilate(backbone) if dilated else backbone


def _stem(channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=_conv(3, channels, (kernel, 5, 5), stride=2),
            norm=BatchNorm3d(channels),
            activation=nn.ReLU(),
            pool=nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        )
    )


class _ResidualBlock(nn.Module):
    """A bottleneck block and its shortcut: (b c t h w) -> (b c2 t h' w').

    The parts have PyTorchVideo's names, so that state dicts have the same keys as in PyTorchVideo's networks.

    Args:
        dim_in: number of input channels, c.
        dim_out: number of output channels, c2. The inner convolutions have c2 / 2 channels. This is more than usual,
            because the first inner convolution has the temporal kernel.
        kernel: temporal kernel of the first convolution, in frames.
        stride: spatial stride of the second convolution and of the shortcut.
    """

    def __init__(self, dim_in: int, dim_out: int, kernel: int, *, stride: int) -> None:
        super().__init__()
        shortcut = dim_in != dim_out or stride != 1
        self.branch1_conv = _conv(dim_in, dim_out, (1, 1, 1), stride=stride) if shortcut else None
        self.branch1_norm = BatchNorm3d(dim_out) if shortcut else None
        inner = dim_out // 2
        self.branch2 = nn.Sequential(
            OrderedDict(
                conv_a=_conv(dim_in, inner, (kernel, 1, 1)),
                norm_a=BatchNorm3d(inner),
                act_a=nn.ReLU(),
                conv_b=_conv(inner, inner, (1, 3, 3), stride=stride),
                norm_b=BatchNorm3d(inner),
                act_b=nn.ReLU(),
                conv_c=_conv(inner, dim_out, (1, 1, 1)),
                norm_c=BatchNorm3d(dim_out),
            )
        )
        self.activation = nn.ReLU()

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t h2 w2"]:
        shortcut = x
        if self.branch1_conv is not None:
            shortcut = self.branch1_conv(x)
        if self.branch1_norm is not None:
            shortcut = self.branch1_norm(shortcut)
        return self.activation(shortcut + self.branch2(x))


def _conv(dim_in: int, dim_out: int, kernel: tuple[int, int, int], *, stride: int = 1) -> nn.Conv3d:
    time, height, width = kernel
    padding = (time // 2, height // 2, width // 2)
    return nn.Conv3d(dim_in, dim_out, kernel, stride=(1, stride, stride), padding=padding, bias=False)


def _initialise(trunk: nn.Module) -> None:
    """Draw the weights as PyTorchVideo does for ResNets. With the same seed, the weights equal PyTorchVideo's.

    Convolutions: He et al., ICCV 2015, with fan-out. The last norm of a residual block starts with weight 0, so that
    the block initially equals its shortcut (Goyal et al., "Accurate, Large Minibatch SGD", 2017).
    """
    for module in trunk.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, _ResidualBlock):
            nn.init.zeros_(module.branch2.get_parameter("norm_c.weight"))
