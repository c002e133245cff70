"""Criss-cross attention.

Huang et al., "CCNet: Criss-Cross Attention for Semantic Segmentation", ICCV 2019, section 3.2, extended to video. Each
position attends to the t + h + w - 2 positions on its lines along t, h and w, which include the position itself once.
One softmax runs over all three lines:

    x'_i = gamma sum_{j on i's lines} softmax_j(query_i^T key_j) value_j + x_i        eq. 2

gamma, a learned scale with initial value 0, is not in the paper's eq. 2, but in the authors' released code.

Most pairs of positions share no line. In one pass, a position receives information only from positions that differ
from it in at most one coordinate. So R = 3 passes, with shared weights, connect all positions (section 3.3: R = 2 in
images). The cost for n positions is O(n (t + h + w) C) per pass. If t = h = w, it grows as n^(4/3), compared with n^2
for full attention.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from farfield.layers.pointwise import POINTWISE_CONV
from farfield.layers.positions import check_input, check_sizes, flat_index, like_memory


class CrissCrossAttention(nn.Module):
    """Criss-cross attention in R passes with shared weights. Each pass computes x + gamma y(x).

    y(x) averages values, with attention weights, over the lines through each position along t, h and w. gamma is a
    learned scale with initial value 0, so the block starts as the identity.

    Args:
        channels: number of channels C of the input and the output.
        passes: number of passes R; None for one pass per axis, which is enough to connect all positions.
        reduction: query and key have C / reduction channels (at least 1).
        ndim: number of position axes, 3 for b c t h w or 2 for b c h w.
        identity_at_init: learn gamma, with initial value 0; False for the paper's eq. 2, x + y(x).

    Raises:
        ValueError: if a number is out of range, or the input has the wrong axes or channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        passes: int | None = None,
        reduction: int = 8,
        ndim: int = 3,
        identity_at_init: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(channels, reduction, ndim)
        self.channels, self.ndim = channels, ndim
        self.passes = ndim if passes is None else passes
        if self.passes < 1:
            raise ValueError(f"passes is {passes}; give at least 1.")
        conv = POINTWISE_CONV[ndim]
        inner = max(1, channels // reduction)
        self.query = conv(channels, inner)
        self.key = conv(channels, inner)
        self.value = conv(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1)) if identity_at_init else None
        self.zero_at_init = ("gamma",) if identity_at_init else ()

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        check_input(x, self.channels, self.ndim, "CrissCrossAttention")
        for _ in range(self.passes):
            x = self._pass(x)
        return x

    def _pass(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        query, key, value = (project(x).movedim(1, -1) for project in (self.query, self.key, self.value))
        sizes = x.shape[2:]
        weights = line_affinities(query, key).softmax(-1).split(list(sizes), dim=-1)
        y = torch.zeros_like(value)
        for axis, along in enumerate(weights, start=1):
            # All lines of the axis in one product: (lines position key) x (lines key c)
            y = y + (along.movedim(axis, -2) @ value.movedim(axis, -2)).movedim(-2, axis)
        y = like_memory(y.movedim(-1, 1), x)
        return x + (y if self.gamma is None else self.gamma * y)

    def attention(
        self, x: Float[Tensor, "b c *positions"], queries: Int[Tensor, "q axes"]
    ) -> Float[Tensor, "b heads q *positions"]:
        """Return the attention maps of chosen positions (t, h, w) in the last pass.

        Each map sums to 1, and is 0 at all positions that are not on the chosen position's lines.

        Raises:
            ValueError: for a query outside of x.
        """
        check_input(x, self.channels, self.ndim, "CrissCrossAttention")
        flat_index(queries, x.shape[2:])  # raises for queries outside of x
        for _ in range(self.passes - 1):
            x = self._pass(x)
        query, key = self.query(x).movedim(1, -1), self.key(x).movedim(1, -1)
        sizes = list(x.shape[2:])
        maps = x.new_zeros(x.shape[0], 1, len(queries), *sizes)
        for number, position in enumerate(queries.tolist()):
            lines = [
                tuple(slice(None) if a == axis else p for a, p in enumerate(position)) for axis in range(self.ndim)
            ]
            own = query[(slice(None), *position)].unsqueeze(-1)
            affinities = [(key[(slice(None), *line)] @ own).squeeze(-1) for line in lines]
            for axis in range(1, self.ndim):
                affinities[axis][:, position[axis]] = -torch.inf
            for line, weights in zip(lines, torch.cat(affinities, -1).softmax(-1).split(sizes, -1), strict=True):
                maps[(slice(None), 0, number, *line)] += weights
        return maps


def line_affinities(
    query: Float[Tensor, "b *positions d"], key: Float[Tensor, "b *positions d"]
) -> Float[Tensor, "b *positions keys"]:
    """Compute query_i^T key_j for all j on the lines of i: first along t, then along h, then along w.

    Position i is on each of its lines. On the second and third line, its affinity to itself is -inf, so that the
    softmax counts it once.
    """
    found = []
    for axis in range(1, query.ndim - 1):
        along = (query.movedim(axis, -2) @ key.movedim(axis, -2).mT).movedim(-2, axis)
        if axis > 1:
            size = query.shape[axis]
            itself = torch.eye(size, dtype=torch.bool, device=query.device)
            along = along.masked_fill(itself.view(size, *(1,) * (query.ndim - 2 - axis), size), -torch.inf)
        found.append(along)
    return torch.cat(found, -1)
