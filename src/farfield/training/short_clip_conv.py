"""Work around wrong gradients of 3D convolutions in bfloat16 on the CPU, for clips shorter than the kernel.

For such clips, oneDNN leaves part of the gradient of an `nn.Conv3d`'s weights unwritten, for example with a temporal
kernel of 5 and clips of 4 frames, or a kernel of 3 and clips of 2 frames. The unwritten part holds old memory content,
at times NaN (torch 2.6 to 2.14.1; `findings/torch-bfloat16-gradient-unwritten.sh`). In float32 the gradient is correct.
The forward pass is correct in both precisions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ShortClipConv3d(nn.Conv3d):
    """`nn.Conv3d` that, under autocast on the CPU, computes in float32 if its kernel is longer than the clip."""

    def forward(self, x: Float[Tensor, "b c_in t_in h_in w_in"]) -> Float[Tensor, "b c_out t_out h_out w_out"]:
        extent = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        if x.device.type != "cpu" or x.shape[2] >= extent or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


def correct_short_clip_gradients(network: nn.Module) -> None:
    """Turn every `nn.Conv3d` with a temporal kernel into a `ShortClipConv3d`, in place; keep parameters and hooks."""
    for module in network.modules():
        if type(module) is nn.Conv3d and module.kernel_size[0] > 1:
            module.__class__ = ShortClipConv3d
