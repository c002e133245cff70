"""A strided convolution of few channels, computed as a convolution of many channels (space to depth).

A network's first convolution has C = 3 input channels, for example with a kernel of 5 x 7 x 7 and a stride s = 2 in
space. A processor's matrix units take 32 numbers per row in bfloat16, so with 3 channels nine tenths of their work is
on channels of padding. `DenseConv3d` therefore turns positions into channels:

- in space, the input is cut into blocks of s x s positions, and the positions of a block become channels
- in time, the frames under the kernel become channels; their number is the kernel's length kt

A convolution over these kt s s C channels, with stride 1 and a smaller kernel, gives the same result. This is the
"space-to-depth" of MLPerf's ResNet-50 (Ying et al., "Image Classification at Supercomputer Scale", 2018), extended to
time. The overhead is multiplications by the zeros that pad the kernel to a multiple of s.

In one axis of space, a convolution with stride s, kernel w_0 .. w_{K-1} and padding p is

    y_i = sum_k w_k x_{s i - p + k}

Value d of block m is X_{m, d} = x_{s m + d}. The padding is written as p = s q - r, with 0 <= r < s. Replacing k by
s j + d - r, with 0 <= d < s, gives a convolution of blocks. Its stride is 1, its kernel size is ceil((K + r) / s), and
w_k is 0 for k outside of 0 .. K-1:

    y_i = sum_j sum_d w_{s j + d - r} X_{i - q + j, d}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.torch_private import has_forward_hooks


class DenseConv3d(nn.Module):
    """Dense (space-to-depth) form of a strided `nn.Conv3d` with the same output, for inference.

    Args:
        conv: convolution whose weights are rearranged.

    Raises:
        ValueError: if `can_be_dense` is False for the convolution.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        if not can_be_dense(conv):
            raise ValueError(
                f"{conv} has no space-to-depth form. Give an nn.Conv3d without groups, dilation or hooks, with "
                "padding_mode='zeros', and with numbers as padding instead of 'same' or 'valid'."
            )
        assert not isinstance(conv.padding, str)  # checked by can_be_dense
        self.kernel_size, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding
        self.weight = nn.Parameter(dense_weight(conv.weight.detach(), self.stride, self.padding), requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        (kt, kh, kw), (st, sh, sw), (pt, ph, pw) = self.kernel_size, self.stride, self.padding
        h, w = axis_padding(x.shape[3], kh, sh, ph), axis_padding(x.shape[4], kw, sw, pw)
        rows = F.pad(x.movedim(1, -1), [0, 0, *w, *h, pt, pt])  # b t h w c
        blocks = rows.unflatten(3, (-1, sw)).unflatten(2, (-1, sh)).transpose(3, 4).flatten(4)  # b t h/s w/s (s s c)
        end = blocks.shape[1] - kt + 1
        frames = torch.cat([blocks[:, k : k + end : st] for k in range(kt)], dim=-1)
        y = F.conv2d(frames.flatten(0, 1).movedim(-1, 1), self.weight[:, :, 0], self.bias)
        return y.unflatten(0, (-1, frames.shape[1])).transpose(1, 2)


def dense_weight(
    weight: Float[Tensor, "c2 c kt kh kw"], stride: Sequence[int], padding: Sequence[int]
) -> Float[Tensor, "c2 dense_c 1 nh nw"]:
    """Rearrange the weight of a strided convolution for its dense form, see the module's docstring.

    Args:
        weight: weight of the strided convolution.
        stride: stride along t, h and w: st, sh and sw.
        padding: padding along t, h and w.

    Returns:
        Weight of the dense form. Its input channels are (kt sh sw c), and its kernel size in space is nh x nw.
    """
    pads: list[int] = []
    for axis in (2, 1):
        before = -padding[axis] % stride[axis]
        pads += [before, -(before + weight.shape[2 + axis]) % stride[axis]]
    blocks = F.pad(weight, pads).unflatten(4, (-1, stride[2])).unflatten(3, (-1, stride[1]))  # c2 c kt nh sh nw sw
    dense = blocks.permute(0, 2, 4, 6, 1, 3, 5).flatten(1, 4).unsqueeze(2)
    return dense.contiguous(memory_format=torch.channels_last_3d)


def axis_padding(size: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Return the padding before an axis and after it, for the dense form of a strided convolution.

    The padded length is a multiple of the stride. A negative padding after the axis crops positions that no output
    uses.

    Args:
        size: length of the axis.
        kernel: kernel size of the strided convolution in this axis.
        stride: stride of the strided convolution.
        padding: padding of the strided convolution at each end.
    """
    before = padding + -padding % stride
    outputs = (size + 2 * padding - kernel) // stride + 1
    kernel_blocks = -(-(before - padding + kernel) // stride)
    return before, stride * (outputs + kernel_blocks - 1) - before - size


def can_be_dense(conv: nn.Module) -> TypeGuard[nn.Conv3d]:
    """Return whether `DenseConv3d` can compute `conv`.

    `conv` must be an `nn.Conv3d` without hooks, groups or dilation, which pads with zeros and has numbers as padding
    instead of "same" or "valid".
    """
    if type(conv) is not nn.Conv3d or has_forward_hooks(conv):
        return False
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return zeros and conv.groups == 1 and set(conv.dilation) == {1}


def is_stem(conv: nn.Module) -> TypeGuard[nn.Conv3d]:
    """Return whether `DenseConv3d` can compute `conv`, and is faster on a CPU with AMX.

    Usually, this is only a network's first convolution (stem), which has few input channels; see `pays_off`.
    """
    return can_be_dense(conv) and pays_off(conv.in_channels, conv.stride)


def pays_off(in_channels: int, stride: Sequence[int]) -> bool:
    """Return whether the dense form of a strided convolution is faster, in bfloat16 on a CPU with AMX.

    This is so for at most 4 input channels and a stride above 1 along h or w.
    """
    return in_channels <= 4 and stride[1] * stride[2] > 1


def has_matrix_units() -> bool:
    """Return whether this processor has matrix units for bfloat16 (AMX), on which the dense form is faster.

    On other processors the added multiplications by zero cancel the gain. The result is False if PyTorch is too old to
    report matrix units.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    return capabilities is not None and bool(capabilities().get("amx_bf16"))
