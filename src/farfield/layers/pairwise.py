"""The pairwise functions of the non-local operation, summed over all n positions with O(n) memory.

Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018, eq. 1: the response at position i is

    y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j)

and section 3.2 gives four functions f. Here each is computed from rows: theta (n d) of the n query positions, phi (m d)
and g (m e) of the m key positions, with any leading axes (batch, heads).

    Gaussian            f = exp(x_i^T x_j)             C = sum_j f   eq. 2   `embedded_gaussian` with theta = phi = x
    embedded Gaussian   f = exp(theta_i^T phi_j)       C = sum_j f   eq. 3   softmax attention
    dot product         f = theta_i^T phi_j            C = m         eq. 4
    concatenation       f = ReLU(w_f^T [theta_i, phi_j])   C = m     eq. 5, with w_f^T [theta_i, phi_j] = a_i + b_j

Time and memory without the projections, for n = m:

    Gaussian forms      O(n^2 (d + e)) time in O(n) memory, by fused or tiled attention
    dot product         O(n d e), because the matrix product is associative
    concatenation       O(n log n + n e), by sorting and prefix sums
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from farfield.layers.attention_choice import choose_kernel
from farfield.layers.positions import at_least_float32
from farfield.layers.tiled_attention import explicit_attention, tiled_attention

BLOCK, SLAB = 32, 64
"""Numbers of rows and of columns that `_sum_first` sums at a time: few enough to stay in the processor's cache."""


def embedded_gaussian(
    theta: Float[Tensor, "*b n d"],
    phi: Float[Tensor, "*b m d"],
    g: Float[Tensor, "*b m e"],
    *,
    scale: float = 1.0,
) -> Float[Tensor, "*b n e"]:
    """Compute sum_j softmax_j(scale theta_i^T phi_j) g_j, by the kernel that `attention_choice` chooses.

    If the kernel is "explicit", which builds the n x m matrix, the result can be differentiated any number of times.
    This kernel is used on a CPU in full precision with m <= d + e, except in compiled or traced code. The results of
    PyTorch's fused kernels and of `tiled_attention` can be differentiated only once.

    Args:
        theta: queries, one row per position.
        phi: keys.
        g: values.
        scale: factor of the affinities theta_i^T phi_j before the softmax; 1 in the paper.
    """
    e = g.shape[-1]
    kernel = choose_kernel(theta, phi, g)
    if kernel != "fused":
        attend = explicit_attention if kernel == "explicit" else tiled_attention
        rows = (part.unsqueeze(0) if part.ndim == 2 else part.flatten(0, -3) for part in (theta, phi, g))
        y = attend(*rows, scale=scale)
        return y if theta.ndim == 3 else y.squeeze(0) if theta.ndim == 2 else y.unflatten(0, theta.shape[:-2])
    # The fused kernels need 4 axes, a contiguous last one and, on CUDA, widths that are multiples of 8; otherwise
    # PyTorch silently builds an n x m matrix. Padding with zeros does not change the result.
    pad = 0 if theta.device.type == "cpu" else 8
    y = F.scaled_dot_product_attention(_fusible(theta, pad), _fusible(phi, pad), _fusible(g, pad), scale=scale)
    return y[..., :e].reshape(*theta.shape[:-1], e)


def dot_product(
    theta: Float[Tensor, "*b n d"],
    phi: Float[Tensor, "*b m d"],
    g: Float[Tensor, "*b m e"],
    *,
    scale: float = 1.0,
) -> Float[Tensor, "*b n e"]:
    """Compute 1/m sum_j scale theta_i^T phi_j g_j, by the cheaper of (theta phi^T) g and theta (phi^T g).

    Args:
        theta: queries, one row per position.
        phi: keys.
        g: values.
        scale: factor of the affinities theta_i^T phi_j; 1 in the paper.
    """
    n, m, d, e = theta.shape[-2], phi.shape[-2], theta.shape[-1], g.shape[-1]
    # sqrt(1/m) before and after the sum over m positions, so that half precision neither overflows nor underflows.
    theta, g = theta * (scale * m**-0.5), g * m**-0.5
    if n * m <= d * e:
        return (theta @ phi.mT) @ g
    return theta @ (phi.mT @ g)


def concatenation(
    a: Float[Tensor, "*b n"], b: Float[Tensor, "*b m"], g: Float[Tensor, "*b m e"]
) -> Float[Tensor, "*b n e"]:
    """Compute 1/m sum_j ReLU(a_i + b_j) g_j exactly in O(n log n + n e).

    ReLU(a_i + b_j) is a_i + b_j if b_j > -a_i, and 0 otherwise. If the keys are sorted by descending b, the keys with
    b_j > -a_i come first. So

        sum_j ReLU(a_i + b_j) g_j = a_i sum_{j: b_j > -a_i} g_j + sum_{j: b_j > -a_i} b_j g_j

    and both sums are prefix sums. Half precision is summed in float32.

    Args:
        a: w_theta^T theta_i, the queries' part of w_f^T [theta_i, phi_j].
        b: w_phi^T phi_j, the keys' part of w_f^T [theta_i, phi_j].
        g: values.
    """
    a, b, values = (at_least_float32(part) for part in (a, b, g))
    # a + delta and b - delta have the same sums; the two terms cancel least near 0.
    delta = b.detach().mean(-1, keepdim=True)
    a, b = a + delta, b - delta
    above = Above(a, b)
    y = a.unsqueeze(-1) * above.sum(values) + above.sum(b.unsqueeze(-1) * values)
    return (y / b.shape[-1]).to(g.dtype)


def embedded_gaussian_weights(
    theta: Float[Tensor, "*b q d"], phi: Float[Tensor, "*b m d"], *, scale: float = 1.0
) -> Float[Tensor, "*b q m"]:
    """Compute the weights of `embedded_gaussian` for q chosen queries: softmax_j(scale theta_i^T phi_j)."""
    return (scale * theta @ phi.mT).softmax(-1)


def dot_product_weights(
    theta: Float[Tensor, "*b q d"], phi: Float[Tensor, "*b m d"], *, scale: float = 1.0
) -> Float[Tensor, "*b q m"]:
    """Compute the weights of `dot_product` for q chosen queries: 1/m scale theta_i^T phi_j.

    The weights can be negative, and do not sum to 1.
    """
    return (scale / phi.shape[-2]) * theta @ phi.mT


def concatenation_weights(a: Float[Tensor, "*b q"], b: Float[Tensor, "*b m"]) -> Float[Tensor, "*b q m"]:
    """Compute the weights of `concatenation` for q chosen queries: 1/m ReLU(a_i + b_j). They do not sum to 1."""
    return (a.unsqueeze(-1) + b.unsqueeze(-2)).relu() / b.shape[-1]


class Above:
    """For every query i, the set of keys j with a_i + b_j > 0.

    `sum` takes one row per key. For each query, it returns the sum of the rows of the keys in the query's set. `count`
    returns the number of keys in each set. The constructor sorts the n queries and the m keys. `sum` of rows with e
    columns then takes O((n + m) e).

    Args:
        a: one number a_i per query.
        b: one number b_j per key.
    """

    def __init__(self, a: Float[Tensor, "*b n"], b: Float[Tensor, "*b m"]) -> None:
        self.batch = a.shape[:-1]
        a, b = (row.detach().unsqueeze(0) if row.ndim == 1 else row.detach().flatten(0, -2) for row in (a, b))
        a, b = a.contiguous(), b.contiguous()  # otherwise searchsorted copies and warns
        (a_down, a_order), (b_down, b_order) = a.sort(descending=True), b.sort(descending=True)
        # -b_down is ascending; its values below a_i are the keys with b_j > -a_i. The gradient needs the converse, too.
        self.plan = (
            _in_one_table(b_order),
            torch.searchsorted(-b_down, a),
            _in_one_table(a_order),
            torch.searchsorted(-a_down, b),
        )

    def sum(self, rows: Float[Tensor, "*b m e"]) -> Float[Tensor, "*b n e"]:
        """Compute sum_{j: a_i + b_j > 0} rows_j. It is differentiable in rows, and piecewise constant in a and b."""
        rows = rows.unsqueeze(0) if rows.ndim == 2 else rows.flatten(0, -3)
        y = _SumFirst.apply(rows, *self.plan)
        return y.reshape(*self.batch, *y.shape[-2:])

    def count(self) -> Int[Tensor, "*b n"]:
        """Return the number of keys j with a_i + b_j > 0, for every query i."""
        return self.plan[1].reshape(*self.batch, self.plan[1].shape[1])


class _SumFirst(torch.autograd.Function):
    """Sum of the rows of all keys j with a_i + b_j > 0, for every query i.

    `order` sorts the keys by descending b, so that the keys of query i are the first count[i] keys. The gradient of key
    j's row is a sum over all queries i with a_i + b_j > 0. It is computed in the same way: `order_back` sorts the
    queries by descending a, so that these queries are the first count_back[j] queries.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        rows: Tensor,
        order: Tensor,
        count: Tensor,
        order_back: Tensor,
        count_back: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(order, count, order_back, count_back)
        return _sum_first(rows, order, count)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        order, count, order_back, count_back = ctx.saved_tensors  # type: ignore[attr-defined]
        return _SumFirst.apply(grad, order_back, count_back, order, count), None, None, None, None


def _sum_first(
    rows: Float[Tensor, "b m e"], order: Int[Tensor, "b m_in_blocks"], count: Int[Tensor, "b n"]
) -> Float[Tensor, "b n e"]:
    if rows.shape[-1] > SLAB:
        return torch.cat([_sum_first(slab, order, count) for slab in rows.split(SLAB, dim=-1)], -1)
    batch, _, e = rows.shape
    sums = rows.reshape(-1, e).index_select(0, order.flatten()).view(batch, order.shape[1] // BLOCK, BLOCK, e).cumsum(2)
    carry = sums[:, :, -1].cumsum(1)
    sums[:, 1:] += carry[:, :-1, None]
    at = (count - 1).clamp(min=0) + torch.arange(batch, device=rows.device).unsqueeze(1) * order.shape[1]
    y = sums.view(-1, e).index_select(0, at.flatten()).view(batch, count.shape[1], e)
    return y.masked_fill_((count == 0).unsqueeze(-1), 0)


def _in_one_table(order: Int[Tensor, "b m"]) -> Int[Tensor, "b m_in_blocks"]:
    """Convert row numbers within each sample to row numbers in the table of all b m rows of the batch.

    The numbers of each sample are padded to a multiple of BLOCK, because `_sum_first` sums blocks of rows. The
    sums that it returns never include the padding.
    """
    batch, m = order.shape
    order = order + torch.arange(batch, device=order.device).unsqueeze(1) * m
    return F.pad(order, (0, -m % BLOCK))


def _fusible(rows: Float[Tensor, "*b n d"], step: int) -> Float[Tensor, "b1 b2 n width"]:
    if step and rows.shape[-1] % step:
        rows = F.pad(rows, (0, -rows.shape[-1] % step))
    if rows.stride(-1) != 1:
        rows = rows.contiguous()
    if rows.ndim == 4:
        return rows
    return rows.unsqueeze(0).unsqueeze(0) if rows.ndim == 2 else rows.flatten(0, -3).unsqueeze(1)
