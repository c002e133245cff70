"""Coordinate attention.

Hou, Zhou, Feng, "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021, section 3.2, extended to video.
Pooling over all axes but one gives a profile along that axis. A convolution to fewer channels, shared by all axes,
processes the concatenated profiles. Each profile then gives a gate:

    z^t, z^h, z^w = x averaged over the other two axes                    eq. 4 and 5
    [f^t, f^h, f^w] = h_swish(BN(reduce [z^t, z^h, z^w]))                 eq. 6, profiles concatenated
    g^a = sigmoid(gate_a f^a) for each axis a                             eq. 7 and 8
    B(x)_thw = x_thw g^t_t g^h_h g^w_w                                    eq. 9

`reduce` and the gate_a are 1x1 convolutions: from C to C / reduction channels, and back.
The layer weights each position by the product of its gates. No position attends to another, so there is no attention
map. For n positions, pooling and weighting take O(n C), and the gates take O((t + h + w) C^2 / reduction).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.batch_norm import BatchNorm1d
from farfield.layers.pointwise import PointwiseConv1d
from farfield.layers.positions import check_input, check_sizes


class CoordinateAttention(nn.Module):
    """Coordinate attention: multiply the features by one gate for each position axis.

    The paper's output B(x) is the product of x and the gates. The block computes x + gamma (B(x) - x). gamma is a
    learned scale with initial value 0, so the block starts as the identity.

    Args:
        channels: number of channels C of the input and the output.
        reduction: factor by which channels are reduced before the gates. C / reduction channels remain (at least 8, as
            in the authors' code).
        ndim: number of position axes, 3 for b c t h w or 2 for b c h w.
        identity_at_init: False to return B(x), without gamma and the residual. At initialisation each gate is about
            1/2, so B(x) is about x / 8 (x / 4 if ndim is 2).

    Raises:
        ValueError: if a number is out of range, or the input has the wrong axes or channels.
    """

    def __init__(self, channels: int, *, reduction: int = 32, ndim: int = 3, identity_at_init: bool = True) -> None:
        super().__init__()
        check_sizes(channels, reduction, ndim)
        inner = max(8, channels // reduction)
        self.channels, self.ndim = channels, ndim
        self.reduce = PointwiseConv1d(channels, inner)
        self.norm = BatchNorm1d(inner)
        self.gate = nn.ModuleList(PointwiseConv1d(inner, channels) for _ in range(ndim))
        self.gamma = nn.Parameter(torch.zeros(1)) if identity_at_init else None
        self.zero_at_init = ("gamma",) if identity_at_init else ()

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        y = x
        for axis, gate in enumerate(self.gates(x)):
            y = y * gate.view(*gate.shape[:2], *(x.shape[2 + a] if a == axis else 1 for a in range(self.ndim)))
        return y if self.gamma is None else x + self.gamma * (y - x)

    def gates(self, x: Float[Tensor, "b c *positions"]) -> list[Float[Tensor, "b c along"]]:
        """Return the gates g^t, g^h and g^w (in images, g^h and g^w).

        Each gate has values from 0 to 1, one per channel and position along its axis.
        """
        check_input(x, self.channels, self.ndim, "CoordinateAttention")
        axes = range(2, 2 + self.ndim)
        profiles = [x.mean([other for other in axes if other != axis]) for axis in axes]
        f = F.hardswish(self.norm(self.reduce(torch.cat(profiles, -1))))
        parts = f.split(list(x.shape[2:]), dim=-1)
        return [torch.sigmoid(gate(part)) for gate, part in zip(self.gate, parts, strict=True)]
