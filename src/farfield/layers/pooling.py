"""Global average pooling.

Lin, Chen, Yan, "Network In Network", ICLR 2014, section 3.2: each channel's response is its mean over all
positions, y_c = 1/n sum_p x_cp. It has no parameters, takes any input size, and is invariant to where
and when something happens.

Clips of different lengths in one batch are padded to the longest. A mask m then excludes the padding,
y_c = sum_p m_p x_cp / sum_p m_p.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from farfield.layers.positions import at_least_float32


class GlobalAvgPool3d(nn.Module):
    """Mean over t, h and w: (b c t h w) -> (b c), or (b c 1 1 1) with `keepdim`.

    With a mask, only positions where the mask is True count. The mask is (b t), for clips of different lengths (see
    `frame_mask`), or (b t h w). Positions where the mask is False have no effect, even if their features are NaN. A
    clip whose mask is False everywhere gives 0.

    Args:
        keepdim: keep the pooled axes with length 1, for a fully convolutional head.
    """

    def __init__(self, *, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(
        self, x: Float[Tensor, "b c t h w"], mask: Bool[Tensor, "b t *hw"] | None = None
    ) -> Float[Tensor, "b c *ones"]:
        """Average over t, h and w; with a mask, only over the positions where the mask is True.

        Raises:
            ValueError: if x is not (b c t h w), or the mask is not boolean with shape (b t) or (b t h w).
        """
        if x.ndim != 5:
            raise ValueError(f"GlobalAvgPool3d needs (b c t h w); given {tuple(x.shape)}.")
        if mask is None:
            return x.mean((2, 3, 4), keepdim=self.keepdim)
        if mask.dtype != torch.bool:
            raise ValueError(f"the mask must be boolean, True where positions count; given {mask.dtype}.")
        if mask.shape not in ((x.shape[0], x.shape[2]), (x.shape[0], *x.shape[2:])):
            raise ValueError(
                f"the mask needs shape (b, t) or (b, t, h, w), for clips (b, c, t, h, w) of shape {tuple(x.shape)}; "
                f"given {tuple(mask.shape)}."
            )
        mask = mask.view(x.shape[0], 1, *mask.shape[1:], *(1,) * (4 - mask.ndim)).expand(-1, 1, *x.shape[2:])
        total = at_least_float32(torch.where(mask, x, 0)).sum((2, 3, 4), keepdim=self.keepdim)
        return (total / mask.sum((2, 3, 4), keepdim=self.keepdim).clamp(min=1)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"keepdim={self.keepdim}"


def frame_mask(num_frames: Int[Tensor, " b"], t: int) -> Bool[Tensor, "b t"]:
    """Create a mask that is True for the first num_frames of each clip's t frames.

    Args:
        num_frames: number of frames of each clip, without padding.
        t: number of frames of every clip in the batch, with padding.
    """
    return torch.arange(t, device=num_frames.device) < num_frames.unsqueeze(1)
