"""Dual attention: position attention and channel attention, side by side.

Fu et al., "Dual Attention Network for Scene Segmentation" (DANet), CVPR 2019, extended to video: n = t*h*w positions.

    P(x)_i = sum_j softmax_j(query_i^T key_j) value_j                     section 3.2, eq. 1 and 2
    C(x)_c = sum_d softmax_d(max_d' e_cd' - e_cd) x_d,  e = x x^T         section 3.3, eq. 3 and 4

Channel attention has no projections, which keeps the relations between channels. Eq. 3 is a softmax over the energies
e_cd. The authors' code and checkpoints, and this layer, subtract each energy from its row's maximum first, so that a
channel attends most to channels *unlike* itself. With C channels, P(x) costs O(n^2 C) time in O(n) memory, and C(x)
costs O(n C^2).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from farfield.layers.matrix_product import batched_product
from farfield.layers.positions import at_least_float32, check_input, from_rows, like_memory, no_autocast, to_rows
from farfield.layers.self_attention import SelfAttention


class DualAttention(nn.Module):
    """Dual attention: x + gamma_p P(x) + gamma_c C(x), with position attention P and channel attention C.

    Both gammas are learned scales with initial value 0, so the block starts as the identity. The submodule `position`
    is a `SelfAttention`, which computes x + gamma_p P(x) and holds gamma_p.

    Args:
        channels: number of channels of the input and the output.
        reduction: factor that reduces the channels of the position attention's queries and keys. They have
            channels / reduction channels, rounded down, but at least one.
        ndim: number of position axes, 3 for b c t h w or 2 for b c h w.
        identity_at_init: False for the paper's sum of two residuals, 2 x + gamma_p P(x) + gamma_c C(x).

    Raises:
        ValueError: if a number is out of range, or the input has the wrong axes or channels.
    """

    def __init__(self, channels: int, *, reduction: int = 8, ndim: int = 3, identity_at_init: bool = True) -> None:
        super().__init__()
        self.position = SelfAttention(channels, reduction=reduction, ndim=ndim)
        self.gamma_c = nn.Parameter(torch.zeros(1))
        self.zero_at_init = ("gamma_c",)
        self.identity_at_init = identity_at_init

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        check_input(x, self.position.channels, self.position.ndim, "DualAttention")
        rows = to_rows(x)
        c = batched_product(rows, channel_attention(rows).mT.to(rows.dtype))
        y = self.position(x) + self.gamma_c * like_memory(from_rows(c, x.shape[2:]), x)
        return y if self.identity_at_init else x + y

    def attention(
        self, x: Float[Tensor, "b c *positions"], queries: Int[Tensor, "q axes"]
    ) -> Float[Tensor, "b heads q *positions"]:
        """Return the maps of the position attention for chosen positions (t, h, w). There is one head.

        Each map sums to 1.

        Raises:
            ValueError: for a query outside of x.
        """
        return self.position.attention(x, queries)


def channel_attention(rows: Float[Tensor, "b n c"]) -> Float[Tensor, "b c c"]:
    """Compute the weight of channel d for channel c: the softmax over d of m_c - e_cd.

    In this formula, e = rows^T rows, and m_c is the maximum of e_cd over d.
    """
    with no_autocast(rows):  # a sum over n positions overflows in half precision
        rows = at_least_float32(rows)
        energy = batched_product(rows.mT, rows)
        return (energy.amax(-1, keepdim=True) - energy).softmax(-1)
