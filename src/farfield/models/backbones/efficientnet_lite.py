"""EfficientNet-Lite0 applied to each frame: a small backbone (3.4 million parameters) to insert blocks into.

EfficientNet-Lite (TensorFlow TPU models, 2020) is EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation
and with ReLU6 as the activation, for small processors. Its weights for ImageNet are in a Python package, see
`farfield.models.efficientnet_lite_weights`. All kernels are 1 x k x k, so no layer mixes frames.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipSpec
from farfield.layers import BatchNorm3d
from farfield.models.backbones.backbone import STAGES, Backbone, Stage
from farfield.models.backbones.dilation import DILATED

EPS = 1e-3
"""Number added to the variance in batch norms, as in TensorFlow.

The norms' momentum is PyTorch's 0.1. With EfficientNet's 0.01, running statistics need hundreds of steps to follow new
data.
"""


class Group(NamedTuple):
    """Consecutive blocks of equal shape. The stride applies to the first block; the others have stride 1."""

    stage: str
    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


GROUPS = (
    Group("stem", 3, 1, 1, 16, 1),
    Group("res2", 3, 2, 6, 24, 2),
    Group("res3", 5, 2, 6, 40, 2),
    Group("res4", 3, 2, 6, 80, 3),
    Group("res4", 5, 1, 6, 112, 3),
    Group("res5", 5, 2, 6, 192, 4),
    Group("res5", 3, 1, 6, 320, 1),
)
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Mean and deviation that normalise pixels in [0, 1] as in TensorFlow's training: (x - 127) / 128 for x in [0, 255]."""
STEM_CHANNELS = 32
OUT_CHANNELS = 1280


def c2d_efficientnet_lite0(*, dilated: bool = False) -> Backbone:
    """Build EfficientNet-Lite0 for 8 frames at stride 8. None of its layers mixes frames.

    Each stage, res2 .. res5, begins with a strided block. The block before res2 belongs to the stem.

    Args:
        dilated: dilate res4 and res5 instead of striding them.
    """
    parts: dict[str, nn.Sequential] = {"stem": _convolution(3, STEM_CHANNELS, kernel=3, stride=2)}
    channels = STEM_CHANNELS
    dilation = 1
    for group in GROUPS:
        blocks = parts.setdefault(group.stage, nn.Sequential())
        for i in range(group.repeats):
            block = InvertedResidual(
                channels,
                group.channels,
                kernel=group.kernel,
                stride=group.stride if i == 0 else 1,
                expansion=group.expansion,
                dilation=dilation,
                dilate=dilated and group.stage in DILATED,
            )
            blocks.add_module("block" if group.stage == "stem" else str(len(blocks)), block)
            channels, dilation = group.channels, block.dilation
    trunk = nn.Sequential()
    for name, part in parts.items():
        trunk.add_module(name, part)
    trunk.add_module("last", _convolution(channels, OUT_CHANNELS, kernel=1))
    widths = {stage: [g.channels for g in GROUPS if g.stage == stage for _ in range(g.repeats)] for stage in STAGES}
    stages = {stage: Stage.within(stage, each) for stage, each in widths.items()}
    clip = ClipSpec(num_frames=8, crop_px=224, frame_stride=8, mean=MEAN, std=STD)
    return Backbone(trunk, stages, clip, out_channels=OUT_CHANNELS)


class InvertedResidual(nn.Module):
    """Inverted residual block, applied to each frame: channel expansion, depthwise convolution, linear projection.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018. The block adds its input to its
    output if both have the same shape.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: size k of the depthwise kernel 1 x k x k.
        stride: spatial stride.
        expansion: ratio of inner channels to input channels; 1 for a block without expansion.
        dilation: spatial dilation of the depthwise kernel.
        dilate: use stride 1 instead of `stride`. The caller must then dilate the following blocks by `self.dilation`.

    Attributes:
        dilation: dilation that the next block must have: the argument `dilation`, multiplied by `stride` if `dilate` is
            set.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        dilation: int,
        dilate: bool,
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.dilation = dilation * stride if dilate else dilation
        self.expand = _convolution(in_channels, inner, kernel=1) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(
            inner, inner, kernel=kernel, stride=stride, groups=inner, dilation=dilation, dilate=dilate
        )
        self.project = _convolution(inner, out_channels, kernel=1, is_linear=True)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t h2 w2"]:
        y = self.project(self.depthwise(self.expand(x)))
        return y + x if self.has_shortcut else y


def _convolution(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    dilate: bool = False,
    is_linear: bool = False,
) -> nn.Sequential:
    """Create a 1 x k x k convolution, followed by a batch norm and, unless `is_linear`, ReLU6.

    Without `dilate`, the padding is TensorFlow's "SAME" for sides divisible by the stride. With stride 2, the top and
    left have `dilation` fewer rows and columns of padding than the bottom and right. If `dilate` is set, the bottom
    and right get another dilation * (stride - 1) rows and columns. Unequal padding needs a separate padding layer,
    since `nn.Conv3d` pads both ends equally.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: size k of the kernel 1 x k x k.
        stride: spatial stride.
        groups: number of channel groups.
        dilation: spatial dilation of the kernel.
        dilate: use stride 1 instead of `stride`. The output then also has the positions between those of the strided
            convolution.
        is_linear: leave out ReLU6.
    """
    before = dilation * ((kernel - stride) // 2)
    after = dilation * (kernel - stride) - before
    if dilate:  # the strided convolution reads `stride` positions apart; this one reads those between them, too
        after += dilation * (stride - 1)
    padding = (0, before, before) if before == after else 0
    layers = nn.Sequential()
    if before != after:
        layers.add_module("pad", nn.ZeroPad3d((before, after, before, after, 0, 0)))
    conv = nn.Conv3d(
        in_channels,
        out_channels,
        (1, kernel, kernel),
        stride=(1, 1, 1) if dilate else (1, stride, stride),
        padding=padding,
        dilation=(1, dilation, dilation),
        groups=groups,
        bias=False,
    )
    fan_out = kernel**2 * out_channels / groups  # TensorFlow's initialisation
    nn.init.normal_(conv.weight, std=(2 / fan_out) ** 0.5)
    layers.add_module("conv", conv)
    layers.add_module("norm", BatchNorm3d(out_channels, eps=EPS))
    if not is_linear:
        layers.add_module("act", nn.ReLU6(inplace=True))  # nothing else reads the norm's output
    return layers
