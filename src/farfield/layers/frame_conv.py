"""A 3D convolution with a temporal kernel of 1, computed as a 2D convolution of frames.

Factorised convolutions have kernels k x 1 x 1 and 1 x d x d. A kernel 1 x d x d mixes no frames: it is a 2D convolution
of all frames of a batch. In channels_last_3d memory the frames are consecutive and each frame is channels_last, so
nothing is copied.

PyTorch has faster kernels for the 2D form. On CPUs, PyTorch computes small 3D convolutions (kernels of at most 3, few
clips, small maps) by unfolding, which takes more time and memory (`scripts/benchmark_layers.py --only FrameConv3d
--channels_last`).
"""

from __future__ import annotations

from typing import Any, TypeGuard

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.replace_modules import replace_modules
from farfield.layers.torch_private import has_forward_hooks


class FrameConv3d(nn.Conv3d):
    """2D form of an `nn.Conv3d` with kernel 1 and stride 1 in time: same parameters, state dict and output.

    Args:
        conv: convolution whose parameters are shared.

    Raises:
        ValueError: if `spans_one_frame` is False for the convolution.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        if not spans_one_frame(conv):
            raise ValueError(
                f"{conv} cannot run as a 2D convolution of frames. Give an nn.Conv3d without hooks, with "
                "kernel 1, stride 1 and no padding in time, and with padding by zeros in space."
            )
        shape: Any = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")}
        super().__init__(conv.in_channels, conv.out_channels, **shape, bias=conv.bias is not None, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t h2 w2"]:
        frames = input.transpose(1, 2).flatten(0, 1)  # (b t) c h w
        space = {name: getattr(self, name)[1:] for name in ("stride", "padding", "dilation")}
        y = F.conv2d(frames, self.weight[:, :, 0], self.bias, groups=self.groups, **space)
        if input.shape[2] == 1:
            return y.unsqueeze(2)  # with the strides of channels_last_3d, by which PyTorch recognises it
        return y.unflatten(0, (-1, input.shape[2])).transpose(1, 2)


def spans_one_frame(conv: nn.Module) -> TypeGuard[nn.Conv3d]:
    """Return whether `conv` is a plain `nn.Conv3d` whose output frame t depends only on input frame t.

    Convolutions with hooks, a reparametrised weight or a padding mode other than zeros are not plain.
    """
    if type(conv) is not nn.Conv3d or has_forward_hooks(conv):
        return False
    in_place = conv.kernel_size[0] == conv.stride[0] == 1 and conv.padding[0] == 0
    return in_place and conv.padding_mode == "zeros"


def convolve_frames(network: nn.Module) -> nn.Module:
    """Replace every convolution that spans a single frame by a `FrameConv3d`, in place.

    Returns:
        `network`, or its replacement if it is such a convolution itself.
    """
    return replace_modules(network, lambda module: FrameConv3d(module) if spans_one_frame(module) else None)
