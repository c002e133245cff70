"""Choose the kernel that computes softmax attention, and the order of the matrix products.

For n queries theta of width d, m keys phi and m values g of width e, the attention weights are an n x m matrix P. The
kernels are:

    fused       PyTorch's fused attention: computes P in small blocks, and in training computes it again for the
                backward pass.
    tiles       `tiled_attention`: like "fused", but in larger blocks, and with the products of `matrix_product`.
    explicit    Keeps the whole P for the backward pass.

The first line that applies decides:

    on a GPU                                fused
    on a CPU, compiled or traced code       tiles if d and e differ, otherwise fused
    on a CPU, full precision, m <= d + e    explicit
    on a CPU, full precision, m > d + e     tiles if d and e differ or oneDNN is faster, otherwise fused
    on a CPU, half precision                tiles if d and e differ, otherwise fused

Compiled or traced code may run later with other n and m, so its kernel does not depend on them.

For m <= d + e, P is no larger than queries and outputs together. (For a non-local block with C/2 inner channels,
d + e = C.) To bound memory, a larger P is not kept. From about 2,000 keys on, reading a kept P would also take longer
than computing P again. `matrix_product.fast` says where oneDNN is faster. `scripts/attention_crossover.py` measures for
which n and m each kernel is the fastest.

In a non-local block, the queries are theta = W_theta x, projected from C to C' channels, and W_z projects from C' back
to C channels. Here x is a C x n matrix, and phi and g are C' x m matrices; each column is one position. The orders are:

    as written  scores (W_theta x)^T phi,    response W_z (g P^T)
    exchanged   scores x^T (W_theta^T phi),  response (W_z g) P^T

Both orders give the same result. The scores and the response each take n C' (C + m) multiply-adds as written, and
m C (C' + n) exchanged. For few keys, such as pooled keys, "exchanged" is cheaper. For C' = C/2, it is cheaper if
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
    """Return whether a non-local block should compute its products in the order "exchanged".

    The module's docstring explains the orders. "exchanged" is chosen if there are no more keys than channels, and if it
    saves at least about 5% of the multiply-adds.

    Args:
        n: number of queries.
        m: number of keys.
        channels: channels of the block's input, C.
        inner: channels of queries, keys and values, C'.
    """
    return m <= channels and n * inner * (channels + m) > 1.05 * m * channels * (inner + n)
