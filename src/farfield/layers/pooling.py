"""Global average pooling.

Lin, Chen, Yan, "Network In Network", ICLR 2014, section 3.2: each channel's response is its mean over all
positions, y_c = 1/n sum_p x_cp. It has no parameters, takes any input size, and is invariant to where
and when something happened.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class GlobalAvgPool3d(nn.Module):
    """Mean over t, h and w: (b c t h w) -> (b c), or (b c 1 1 1) with `keepdim`.

    Args:
        keepdim: keep the pooled axes with length 1.
    """

    def __init__(self, *, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c *ones"]:
        return x.mean((2, 3, 4), keepdim=self.keepdim)

    def extra_repr(self) -> str:
        return f"keepdim={self.keepdim}"
