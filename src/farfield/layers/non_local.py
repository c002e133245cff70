"""The non-local block in its embedded Gaussian form.

Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018. The response at position i is a weighted sum
over all n = t*h*w positions j (eq. 1):

    y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j)

with f(x_i, x_j) = exp(theta(x_i)^T phi(x_j)) and C(x) = sum_j f(x_i, x_j) (eq. 4), which is softmax attention:

    y = softmax(theta(x)^T phi(x)) g(x)            eq. 5
    z = W_z y + x                                  eq. 6: a residual, the identity while W_z y = 0

theta, phi and g are 1x1x1 convolutions from C to C' = C/2 channels. Keys and values may be subsampled by a max-pool
over space ("the subsampling trick", section 3.3): it keeps the non-local behaviour and costs a quarter.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.batch_norm import BatchNorm3d


def embedded_gaussian(
    theta: Float[Tensor, "*b n d"],
    phi: Float[Tensor, "*b m d"],
    g: Float[Tensor, "*b m e"],
    *,
    scale: float = 1.0,
) -> Float[Tensor, "*b n e"]:
    """softmax(scale theta phi^T) g over the m keys (eq. 5), through PyTorch's fused attention.

    Args:
        theta: queries, one row per position.
        phi: keys.
        g: values.
        scale: factor on the affinities before the softmax; eq. 5 has 1.
    """
    return F.scaled_dot_product_attention(theta, phi, g, scale=scale)


class NonLocalBlock3d(nn.Module):
    """A spacetime non-local block (embedded Gaussian), z = x + BN(W_z y).

    (b c t h w) -> (b c t h w), and exactly the identity at birth: the last norm's gamma starts at 0 (section 4.1), so
    a block can be inserted into a pretrained network without changing what it computes.

    Args:
        channels: C, the channels of input and output.
        inner_channels: C'; None for C/2 (section 3.3).
        key_pool: max-pooling (t, h, w) of what keys and values are computed from; None for no pooling. Positions that
            do not fill a window at the border are left out, as in the authors' code.
        scale: divide affinities by sqrt(C'). It is not in eq. 5; the authors' released code has it, and so do their
            checkpoints.

    Raises:
        ValueError: for channel counts below 1, or an input smaller than `key_pool`.
    """

    def __init__(
        self,
        channels: int,
        *,
        inner_channels: int | None = None,
        key_pool: tuple[int, int, int] | None = (1, 2, 2),
        scale: bool = True,
    ) -> None:
        super().__init__()
        inner = channels // 2 if inner_channels is None else inner_channels
        if channels < 1 or inner < 1:
            raise ValueError(f"NonLocalBlock3d needs at least one channel; given {channels}, with {inner} inside.")
        self.key_pool = None if key_pool is None or max(key_pool) == 1 else tuple(key_pool)
        self.scale = inner**-0.5 if scale else 1.0
        self.theta = nn.Conv3d(channels, inner, kernel_size=1)
        self.phi = nn.Conv3d(channels, inner, kernel_size=1)
        self.g = nn.Conv3d(channels, inner, kernel_size=1)
        self.w_z = nn.Conv3d(inner, channels, kernel_size=1)
        self.norm = BatchNorm3d(channels, zero_init=True)
        for conv in (self.theta, self.phi, self.g, self.w_z):
            nn.init.normal_(conv.weight, std=0.01)  # the authors' code; PyTorch's default is several times wider
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        keys = x
        if self.key_pool is not None:
            if any(size < window for size, window in zip(x.shape[2:], self.key_pool, strict=True)):
                raise ValueError(
                    f"the non-local block's input is {tuple(x.shape[2:])} (t, h, w), smaller than its key_pool "
                    f"{self.key_pool}. Give a larger clip, insert the block earlier, or set key_pool to null."
                )
            keys = F.max_pool3d(x, self.key_pool)
        y = embedded_gaussian(
            _as_rows(self.theta(x)), _as_rows(self.phi(keys)), _as_rows(self.g(keys)), scale=self.scale
        )
        y = y.transpose(1, 2).unflatten(2, x.shape[2:])  # b n c' -> b c' t h w
        return x + self.norm(self.w_z(y))

    def extra_repr(self) -> str:
        return f"key_pool={self.key_pool}, scale={self.scale:.4g}"


def _as_rows(x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n c"]:
    # Contiguous: the fused kernels refuse a last axis that is not, and fall back to an n x n matrix.
    return x.flatten(2).transpose(1, 2).contiguous()
