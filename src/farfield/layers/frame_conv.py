"""A 3D convolution that spans a single frame, computed as the 2D convolution of frames that it is.

Of the factorised kernels t x 1 x 1 and 1 x d x d, the second mixes no frames: it is one 2D convolution of the b t
frames of a batch. In channels_last_3d memory the frames lie one after the other, each in channels_last, so that nothing
is copied. PyTorch has better kernels for the 2D form: small 3D convolutions (kernels of at most 3, few clips, small
maps) it computes on CPUs by unfolding, more slowly and in more memory (`scripts/benchmark_layers.py --only FrameConv3d
--channels_last`).
"""

from __future__ import annotations

from typing import Any, TypeGuard

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.replace_modules import replace_modules


class FrameConv3d(nn.Conv3d):
    """`nn.Conv3d` with a kernel and a stride of 1 in time: the same parameters, state dict and output.

    Args:
        conv: whose parameters it shares.

    Raises:
        ValueError: for a convolution that is more than that, see `spans_one_frame`.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        if not spans_one_frame(conv):
            raise ValueError(
                f"{conv} is no plain nn.Conv3d with kernel 1, stride 1 and no padding in time, zeros in space."
            )
        shape: Any = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")}
        super().__init__(conv.in_channels, conv.out_channels, **shape, bias=conv.bias is not None, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t h2 w2"]:
        frames = input.transpose(1, 2).flatten(0, 1)  # (b t) c h w
        space = {name: getattr(self, name)[1:] for name in ("stride", "padding", "dilation")}
        y = F.conv2d(frames, self.weight[:, :, 0], self.bias, groups=self.groups, **space)
        return y.unflatten(0, (-1, input.shape[2])).transpose(1, 2)


def spans_one_frame(conv: nn.Module) -> TypeGuard[nn.Conv3d]:
    """Whether a module is a plain convolution in which an output frame is made from the input frame at its place.

    One with hooks, a reparametrised weight or another padding than by zeros is not plain.
    """
    if type(conv) is not nn.Conv3d or conv._forward_pre_hooks or conv._forward_hooks:
        return False
    in_place = conv.kernel_size[0] == conv.stride[0] == 1 and conv.padding[0] == 0
    return in_place and conv.padding_mode == "zeros"


def convolve_frames(network: nn.Module) -> nn.Module:
    """Puts a `FrameConv3d` in the place of every convolution that spans a single frame, in place.

    Returns:
        `network`, or its replacement.
    """
    return replace_modules(network, lambda module: FrameConv3d(module) if spans_one_frame(module) else None)
