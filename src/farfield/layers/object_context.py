"""Object-contextual representations.

Yuan, Chen, Wang, "Object-Contextual Representations for Semantic Segmentation" (OCRNet), ECCV 2020, section 3,
extended to video. Positions are pooled to K soft object regions, and each position attends to the regions instead of
to all positions:

    m_ki  = softmax_i (region logits)_ki           soft object regions: a spatial softmax over the positions
    f_k   = sum_i m_ki x_i                         region representations
    w_ik  = softmax_k phi(x_i)^T psi(f_k)          relation of position and region
    y_i   = rho(sum_k w_ik delta(f_k))             object-contextual representation
    B(x)_i = g([x_i, y_i])                         augmented representation

phi, psi, delta, rho and g are each a 1x1 convolution, batch norm and ReLU. In segmentation the region logits are
supervised by the ground-truth map (auxiliary loss, weight 0.4). A video has one label instead of a map. With one region
per class, the region logits, averaged over all positions, are class logits of the clip. The auxiliary loss is computed
from these class logits.

For n positions, attention costs O(n K C), which is linear in n.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from farfield.layers.batch_norm import BATCH_NORM
from farfield.layers.matrix_product import batched_product
from farfield.layers.pairwise import embedded_gaussian, embedded_gaussian_weights
from farfield.layers.pointwise import POINTWISE_CONV, project, suited_format
from farfield.layers.positions import check_input, check_sizes, flat_index, from_rows, like_memory, to_rows


class ObjectContext(nn.Module):
    """Object-contextual attention: positions attend to K soft object regions instead of to all positions.

    The paper's output is B(x). The block computes x + gamma (B(x) - x). gamma is a learned scale with initial value 0,
    so the block starts as the identity.

    The submodule `regions` computes the region logits. If return_regions is True, `forward` returns the pair (output,
    region logits). Inside a network, a forward hook on `regions` can read the region logits.

    Args:
        channels: number of channels C of the input and the output.
        num_regions: number of regions K. If an auxiliary loss classifies the clip from the region logits, give the
            number of classes.
        key_channels: number of channels of queries, keys and values (phi, psi and delta in the paper); None for C/2
            (the paper: 256 of 512).
        scale: divide the affinities of positions and regions by the square root of key_channels, as in the authors'
            code. The paper has no scale.
        ndim: number of position axes, 3 for b c t h w or 2 for b c h w.
        identity_at_init: False to return B(x), without gamma and the residual.

    Raises:
        ValueError: if a number is out of range, or the input has the wrong axes or channels.
    """

    def __init__(
        self,
        channels: int,
        num_regions: int,
        *,
        key_channels: int | None = None,
        scale: bool = True,
        ndim: int = 3,
        identity_at_init: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(channels, 1, ndim)
        if num_regions < 1:
            raise ValueError(f"num_regions is {num_regions}; give at least 1 (for classification, one per class).")
        inner = max(1, channels // 2) if key_channels is None else key_channels
        self.channels, self.num_regions, self.ndim = channels, num_regions, ndim
        self.scale = inner**-0.5 if scale else 1.0
        self.regions = POINTWISE_CONV[ndim](channels, num_regions)
        nn.init.zeros_(self.regions.bias)  # type: ignore[arg-type]  # has no effect on a softmax over positions
        self.phi = _Transform(channels, inner, ndim)
        self.psi = _Transform(channels, inner, 1)
        self.delta = _Transform(channels, inner, 1)
        self.rho = _Transform(inner, channels, ndim)
        self.g = _Transform(2 * channels, channels, ndim)
        self.gamma = nn.Parameter(torch.zeros(1)) if identity_at_init else None
        self.zero_at_init = ("gamma",) if identity_at_init else ()

    @overload
    def forward(
        self, x: Float[Tensor, "b c *positions"], *, return_regions: Literal[False] = False
    ) -> Float[Tensor, "b c *positions"]: ...

    @overload
    def forward(
        self, x: Float[Tensor, "b c *positions"], *, return_regions: Literal[True]
    ) -> tuple[Float[Tensor, "b c *positions"], Float[Tensor, "b k *positions"]]: ...

    def forward(
        self, x: Float[Tensor, "b c *positions"], *, return_regions: bool = False
    ) -> Float[Tensor, "b c *positions"] | tuple[Float[Tensor, "b c *positions"], Float[Tensor, "b k *positions"]]:
        """Compute the output; with return_regions, also return the region logits."""
        check_input(x, self.channels, self.ndim, "ObjectContext")
        logits = project(self.regions, x, memory_format=suited_format(x, self.num_regions))
        f = self._representations(x, logits)
        context = embedded_gaussian(
            to_rows(self.phi(x)), to_rows(self.psi(f)), to_rows(self.delta(f)), scale=self.scale
        )
        y = self.rho(from_rows(context, x.shape[2:]))
        z = like_memory(self.g(torch.cat([x, y], 1)), x)
        z = z if self.gamma is None else x + self.gamma * (z - x)
        return (z, logits) if return_regions else z

    def attention(
        self, x: Float[Tensor, "b c *positions"], queries: Int[Tensor, "q axes"]
    ) -> Float[Tensor, "b heads q *positions"]:
        """Return the attention maps of chosen positions. The heads axis has length 1.

        A chosen position attends to region k with weight w_k. In region k, position i has weight m_ki. The map of the
        chosen position gives position i the weight sum_k w_k m_ki. Each map sums to 1.

        Args:
            x: the block's input.
            queries: indices of each chosen position: (t, h, w), or (h, w) if ndim is 2.

        Raises:
            ValueError: for a query outside of x.
        """
        check_input(x, self.channels, self.ndim, "ObjectContext")
        logits = self.regions(x)
        phi = to_rows(self.phi(x))[:, flat_index(queries, x.shape[2:])]
        psi = to_rows(self.psi(self._representations(x, logits)))
        weights = embedded_gaussian_weights(phi, psi, scale=self.scale) @ logits.flatten(2).softmax(-1)
        return weights.unflatten(2, x.shape[2:]).unsqueeze(1)

    def _representations(self, x: Tensor, logits: Tensor) -> Float[Tensor, "b c k"]:
        return batched_product(logits.flatten(2).softmax(-1), to_rows(x)).mT


class _Transform(nn.Sequential):
    """1x1 convolution, batch norm and ReLU, in the memory format that suits the input."""

    def __init__(self, channels: int, out_channels: int, ndim: int) -> None:
        conv = POINTWISE_CONV[ndim](channels, out_channels, bias=False)
        super().__init__(conv, BATCH_NORM[ndim](out_channels), nn.ReLU())
        self.out_channels = out_channels

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c2 *positions"]:
        conv, norm, relu = self
        return relu(norm(project(conv, x, memory_format=suited_format(x, self.out_channels))))
