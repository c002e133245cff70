"""Dual attention: position attention and channel attention, side by side.

Fu et al., "Dual Attention Network for Scene Segmentation" (DANet), CVPR 2019, brought to video: positions are t*h*w.

    P(x)_i = sum_j softmax_j(query_i^T key_j) value_j                     section 3.2, eq. 1 and 2
    C(x)_c = sum_d softmax_d(max_d' e_cd' - e_cd) x_d,  e = x x^T         section 3.3, eq. 3 and 4

Channel attention has no projections, "to keep the relations of different channels". Its energy is subtracted from the
row's maximum in the authors' code, not in eq. 3: a channel attends most to those *unlike* itself. As checkpoints have
it, so have we. Cost in positions n: O(n^2 C) time in O(n) memory for P (fused attention), O(n C^2) for C.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from farfield.layers.pairwise import embedded_gaussian, embedded_gaussian_weights
from farfield.layers.pointwise import POINTWISE_CONV
from farfield.layers.positions import (
    at_least_float32,
    check_input,
    check_sizes,
    flat_index,
    from_rows,
    like_memory,
    no_autocast,
    to_rows,
)


class DualAttention(nn.Module):
    """x + gamma_p P(x) + gamma_c C(x), both gammas learned from 0: the identity at birth.

    Args:
        channels: C.
        reduction: query and key have C / reduction channels (at least 1).
        ndim: position axes: 3 for b c t h w, 2 for b c h w.
        identity_at_birth: False for the paper's sum of two residuals, 2 x + gamma_p P(x) + gamma_c C(x).

    Raises:
        ValueError: for an input of other axes or channels.
    """

    def __init__(self, channels: int, *, reduction: int = 8, ndim: int = 3, identity_at_birth: bool = True) -> None:
        super().__init__()
        check_sizes(channels, reduction, ndim)
        conv = POINTWISE_CONV[ndim]
        inner = max(1, channels // reduction)
        self.channels, self.ndim, self.identity_at_birth = channels, ndim, identity_at_birth
        self.query = conv(channels, inner)
        self.key = conv(channels, inner)
        self.value = conv(channels, channels)
        self.gamma_p = nn.Parameter(torch.zeros(1))
        self.gamma_c = nn.Parameter(torch.zeros(1))
        self.zero_at_birth = ("gamma_p", "gamma_c")

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        check_input(x, self.channels, self.ndim, "DualAttention")
        rows = to_rows(x)
        p = embedded_gaussian(to_rows(self.query(x)), to_rows(self.key(x)), to_rows(self.value(x)))
        c = rows @ channel_attention(rows).mT.to(rows.dtype)
        residual = x if self.identity_at_birth else 2 * x
        return residual + like_memory(from_rows(self.gamma_p * p + self.gamma_c * c, x.shape[2:]), x)

    def attention(
        self, x: Float[Tensor, "b c *positions"], queries: Int[Tensor, "q axes"]
    ) -> Float[Tensor, "b heads q *positions"]:
        """What chosen positions (t, h, w) attend to in P: maps that sum to 1; there is one head.

        Raises:
            ValueError: for a query outside of x.
        """
        check_input(x, self.channels, self.ndim, "DualAttention")
        query, key = to_rows(self.query(x)), to_rows(self.key(x))
        weights = embedded_gaussian_weights(query[:, flat_index(queries, x.shape[2:])], key)
        return weights.unflatten(2, x.shape[2:]).unsqueeze(1)


def channel_attention(rows: Float[Tensor, "b n c"]) -> Float[Tensor, "b c c"]:
    """softmax_d(max_d' e_cd' - e_cd) with e = x x^T: how much channel c takes of channel d."""
    with no_autocast(rows):  # a sum over n positions overflows in half precision
        rows = at_least_float32(rows)
        energy = rows.mT @ rows
        return (energy.amax(-1, keepdim=True) - energy).softmax(-1)
