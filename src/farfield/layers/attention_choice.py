"""Choose how to compute softmax attention: which kernel, and in which order of the matrix products.

Kernels, for n queries of width d, and m keys with values of width e:

    fused       PyTorch's fused attention: computes the n x m matrix in small blocks, twice in training.
    tiles       `tiled_attention`: like "fused", but in larger blocks, and with the products of `matrix_product`.
    explicit    Keeps the whole n x m matrix for the backward pass, instead of computing it again.

On a CPU the choice is usually "explicit" if the matrix is no larger than queries and outputs together: m <= d + e. For
a non-local block with C/2 inner channels, d + e = C. Larger matrices are not kept, to bound memory. From about 2,000
keys on, reading the matrix also takes longer than computing it again. `scripts/attention_crossover.py` measures both
limits.

Orders, with projections from C to C' channels:

    as written  scores (W_theta x)^T phi,    response W_z (g P^T)          n C' (C + m) multiply-adds each
    exchanged   scores x^T (W_theta^T phi),  response (W_z g) P^T          m C (C' + n) multiply-adds each

Both orders give the same result. "exchanged" is cheaper for few keys, such as pooled keys: for C' = C/2, if
1/m > 1/n + 1/C.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from farfield.layers.matrix_product import fast, is_recorded

Kernel = Literal["fused", "tiles", "explicit"]


def choose_kernel(theta: Tensor, phi: Tensor, g: Tensor) -> Kernel:
    """Choose the kernel for queries (*b n d), keys (*b m d) and values (*b m e)."""
    (n, d), (m, e) = theta.shape[-2:], g.shape[-2:]
    if theta.device.type != "cpu":
        return "fused"
    if is_recorded():  # a choice by size would not hold for other sizes, or compile the block again for them
        return "fused" if d == e else "tiles"
    half = theta.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled("cpu")
    if m <= d + e and not half:
        return "explicit"
    return "tiles" if d != e or fast(theta, phi, g, multiply_adds=n * m * d) else "fused"


def exchanged_is_cheaper(n: int, m: int, channels: int, inner: int) -> bool:
    """Return whether m <= C and the exchanged order saves about 5% of the multiply-adds or more."""
    return m <= channels and n * inner * (channels + m) > 1.05 * m * channels * (inner + n)
