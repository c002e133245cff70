"""The non-local block.

Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018. The response at position i is a weighted sum
over all n = t*h*w positions j (eq. 1):

    y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j)

f is one of four pairwise functions (eq. 2 to 5, in `pairwise`). Three of them use projections theta and phi of x. The
block projects the response, and adds the input x (eq. 6):

    z_i = W_z y_i + x_i                                  the identity while W_z y = 0

theta, phi and g are 1x1x1 convolutions from C to C' = C/2 channels. W_z is a 1x1x1 convolution from C' back to C. Keys
and values may be subsampled by a max-pool over space ("the subsampling trick", section 3.3), which keeps the non-local
behaviour at a quarter of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.attention_choice import exchanged_is_cheaper
from farfield.layers.batch_norm import BATCH_NORM
from farfield.layers.matrix_product import fast_samples, product
from farfield.layers.pairwise import (
    concatenation,
    concatenation_weights,
    dot_product,
    dot_product_weights,
    embedded_gaussian,
    embedded_gaussian_weights,
)
from farfield.layers.pointwise import POINTWISE_CONV, pointwise, project
from farfield.layers.positions import (
    by_columns,
    check_input,
    flat_index,
    from_rows,
    memory_format,
    split_samples,
    stack_samples,
    to_rows,
)
from farfield.layers.torch_private import has_plain_call

Pairwise = Literal["gaussian", "embedded_gaussian", "dot_product", "concatenation"]
Scope = Literal["spacetime", "space", "time"]

MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class _NonLocalBlock(nn.Module):
    """Non-local block for features ({axes}): z = x + BN(W_z y), where y is the non-local response to x.

    The output has the shape of the input. At initialisation, the norm's gamma is 0 (section 4.1), or W_z is 0 in a
    block without a norm. The block is then exactly the identity, so inserting it into a pretrained network does not
    change the network's output. The matrix of all attention weights, queries x keys, is built only if it is small.
    `pairwise` and `attention_choice` explain how the response is computed, and its time and memory.

    Args:
        channels: C, the channels of input and output.
        pairwise: function f, "gaussian", "embedded_gaussian" (the paper's default), "dot_product" or "concatenation".
        inner_channels: number of inner channels C'; None for C/2 (section 3.3).
        key_pool: window of the max-pooling before keys and values, one size per axis; None for no pooling. "paper"
            for 2 along each axis of space{paper_pool}. With scope "time", "paper" does not pool. Positions at the
            border that do not fill a window are not pooled into any key, as in the authors' code.
        pool_after_projection: pool phi(x) and g(x) instead of x. The paper and PySlowFast pool x; MMAction2 pools the
            projections. The outputs differ, so a checkpoint needs the order that it was trained with.
        scale: divide affinities by the square root of the channels per head: C' / num_heads (for "gaussian":
            C / num_heads). None scales only "embedded_gaussian": eq. 3 has no scale, but the authors' released code
            and checkpoints have one. "concatenation" cannot be scaled.
        scope: positions that a position attends to: all ("spacetime"), those of its frame ("space"), or those at the
            same (h, w) in all frames ("time"), as in the paper's table 2d. "space" and "time" need clips (t h w).
        num_heads: number of attention heads, among which the C' channels are divided. An extension; the paper has 1.
            None for one head per group.
        groups: number of channel groups in the four projections. Each group of channels is then a separate non-local
            block. An extension; the paper has 1.
        out_bias: add a bias in W_z. The paper's and PySlowFast's blocks have it; MMAction2's have none before a norm.
        norm: add batch normalisation after W_z.

    Raises:
        ValueError: if options are incompatible, or the input has wrong axes or channels or is smaller than `key_pool`.
    """

    ndim: int

    def __init__(
        self,
        channels: int,
        *,
        pairwise: Pairwise = "embedded_gaussian",
        inner_channels: int | None = None,
        key_pool: Sequence[int] | Literal["paper"] | None = "paper",
        pool_after_projection: bool = False,
        scale: bool | None = None,
        scope: Scope = "spacetime",
        num_heads: int | None = None,
        groups: int = 1,
        out_bias: bool = True,
        norm: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        inner = channels // 2 if inner_channels is None else inner_channels
        heads = groups if num_heads is None else num_heads
        if channels < 1 or inner < 1:
            raise ValueError(
                f"{name} needs at least one channel and one inner channel; given channels={channels} and "
                f"inner_channels={inner}. Set inner_channels, which is channels // 2 by default."
            )
        if pairwise not in get_args(Pairwise):
            raise ValueError(f"pairwise is {pairwise!r}; choose among {', '.join(get_args(Pairwise))}.")
        if scope not in get_args(Scope) or (scope != "spacetime" and self.ndim != 3):
            if self.ndim == 3:
                raise ValueError(f"scope is {scope!r}; give 'spacetime', 'space' or 'time'.")
            raise ValueError(
                f"scope is {scope!r}, but {name} has only 'spacetime'. Leave scope out, or use NonLocalBlock3d for "
                "clips."
            )
        if min(heads, groups) < 1 or inner % heads or heads % groups or channels % groups:
            raise ValueError(
                f"num_heads is {heads} and groups is {groups}; num_heads must divide inner_channels ({inner}), and "
                f"groups must divide num_heads and channels ({channels}). Change num_heads or groups; without "
                "num_heads, there is one head per group."
            )
        if pairwise == "gaussian" and channels % heads:
            raise ValueError(
                f"pairwise='gaussian' compares the channels of x itself, so num_heads={heads} must divide the "
                f"{channels} channels. Change num_heads."
            )
        if pairwise == "concatenation" and scale:
            raise ValueError("pairwise='concatenation' has no scale. Leave scale out.")
        self.channels = channels
        self.inner_channels = inner
        self.pairwise = pairwise
        self.scope = scope
        self.heads = heads
        self.key_pool = _key_pool(key_pool, scope, self.ndim)
        self.pool_after_projection = pool_after_projection
        width = (channels if pairwise == "gaussian" else inner) // heads
        self.scale = width**-0.5 if scale or (scale is None and pairwise == "embedded_gaussian") else 1.0

        conv = POINTWISE_CONV[self.ndim]
        embeds = pairwise != "gaussian"
        self.theta = conv(channels, inner, groups=groups) if embeds else None
        self.phi = conv(channels, inner, groups=groups) if embeds else None
        self.g = conv(channels, inner, groups=groups)
        # w_f of eq. 5 for each head: the first half applies to theta, the second to phi.
        self.w_f = nn.Parameter(torch.empty(heads, 2 * width)) if pairwise == "concatenation" else None
        self.w_z = conv(inner, channels, groups=groups, bias=out_bias)
        self.norm = BATCH_NORM[self.ndim](channels, zero_init=True) if norm else None
        self.zero_at_init = ("norm.weight",) if norm else ("w_z.weight",)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialise the parameters; the block is then the identity again."""
        for conv in (self.theta, self.phi, self.g, self.w_z):
            if conv is not None:
                nn.init.normal_(conv.weight, std=0.01)  # as the authors' code; PyTorch's default is wider
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        if self.w_f is not None:
            nn.init.normal_(self.w_f, std=0.01)
        if self.norm is not None:
            self.norm.reset_parameters()
        else:
            nn.init.zeros_(self.w_z.weight)

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        z = self._by_samples(x) if self._goes_by_samples(x) else self._together(x)
        return x + (z if self.norm is None else self.norm(z))

    def _together(self, x: Tensor) -> Tensor:
        """Compute W_z y for all clips at once."""
        theta, phi, g = self._rows(x)
        if self.w_f is not None:
            y = concatenation(theta.squeeze(-1), phi.squeeze(-1), g)
        elif self.pairwise == "dot_product":
            y = dot_product(theta, phi, g, scale=self.scale)
        else:
            y = embedded_gaussian(theta, phi, g, scale=self.scale)
        y = _ungroup(y.transpose(1, 2).flatten(2), x.shape[2:], self.scope)
        # In the memory format of x, like the gradient: a batch norm with mixed formats is many times slower.
        return project(self.w_z, from_rows(y, x.shape[2:]), memory_format=memory_format(x))

    def _goes_by_samples(self, x: Tensor) -> bool:
        """Return whether to use `_by_samples`.

        `_by_samples` is used if the products of a clip are large enough for `matrix_product.fast_samples`. It supports
        only the embedded Gaussian with one head, scope "spacetime", keys that are not pooled after the projection, and
        convolutions of the classes in `POINTWISE_CONV`, without hooks.
        """
        if self.pairwise != "embedded_gaussian" or self.scope != "spacetime" or self.pool_after_projection:
            return False
        check_input(x, self.channels, self.ndim, type(self).__name__)
        if self.heads > 1 or not fast_samples(x, width=self.inner_channels):
            return False
        convs = [conv for conv in (self.theta, self.phi, self.g, self.w_z) if conv is not None]
        if any(type(c) not in POINTWISE_CONV.values() or not has_plain_call(c) for c in convs):
            return False
        return fast_samples(x, *[conv.weight for conv in convs], width=self.inner_channels)

    def _by_samples(self, x: Tensor) -> Tensor:
        """Compute W_z y for one clip after the other, in the memory layout of x.

        The products are computed in the cheaper of two orders, see `attention_choice`. Intermediate results of a clip
        are small enough to stay in the processor's cache, and are never copied.
        """
        keys = self._pool(x)
        clips = zip(split_samples(to_rows(x)), split_samples(to_rows(keys)), strict=True)
        return from_rows(stack_samples([self._sample(rows, of_keys) for rows, of_keys in clips]), x.shape[2:])

    def _sample(self, x: Float[Tensor, "n c"], keys: Float[Tensor, "m c"]) -> Float[Tensor, "n c"]:
        """Compute W_z y for the positions of one clip; `attention_choice` explains the two orders of the products."""
        (w_theta, b_theta), (w_phi, b_phi), (w_g, b_g), (w_z, b_z) = (
            (conv.weight.flatten(1), conv.bias) for conv in (self.theta, self.phi, self.g, self.w_z) if conv is not None
        )
        columns = by_columns(x)
        phi, g = product(keys, w_phi.mT, b_phi), product(keys, w_g.mT, b_g)
        if exchanged_is_cheaper(len(x), len(keys), *w_z.shape):
            phi = phi * self.scale
            bias = None if b_theta is None else phi @ b_theta
            scores = product(x, product(phi, w_theta).mT, bias, columns=False)
            return product(scores.softmax(-1), product(g, w_z.mT), b_z, columns=columns)
        theta = product(x, w_theta.mT, b_theta)
        y = embedded_gaussian(theta, phi, g, scale=self.scale)
        return product(y, w_z.mT, b_z, columns=columns)

    def attention(
        self, x: Float[Tensor, "b c *positions"], queries: Int[Tensor, "q axes"]
    ) -> Float[Tensor, "b heads q *keys"]:
        """Return the attention maps of chosen positions: the weights f(x_i, x_j) / C(x) of the paper's eq. 1.

        C(x) normalises the weights. The map of one query takes O(n) time and memory for n positions.

        Args:
            x: the block's input.
            queries: indices of each chosen position in x, one per position axis: (t, h, w), (h, w) or (n).

        Returns:
            A map over the keys' positions for each query; pooled keys have fewer positions. Weights outside of the
            scope are 0. Maps of the two Gaussian forms sum to 1. Weights of the dot product and of concatenation are
            the affinities divided by the number of keys in the scope.

        Raises:
            ValueError: for a query outside of x.
        """
        index = flat_index(queries, x.shape[2:])
        theta, phi, _ = self._rows(x)
        group, row = _place(index, x.shape[2:], self.scope)
        if self.scope == "spacetime":
            theta, phi = theta[:, :, row].unsqueeze(2), phi.unsqueeze(2)  # b heads 1 q d, b heads 1 m d
        else:
            groups = theta.shape[0] // x.shape[0]
            theta = theta.unflatten(0, (-1, groups))[:, group, :, row].permute(1, 2, 0, 3).unsqueeze(3)
            phi = phi.unflatten(0, (-1, groups))[:, group].transpose(1, 2)  # b heads q 1 d, b heads q m d
        if self.w_f is not None:
            weights = concatenation_weights(theta.squeeze(-1), phi.squeeze(-1))
        elif self.pairwise == "dot_product":
            weights = dot_product_weights(theta, phi, scale=self.scale)
        else:
            weights = embedded_gaussian_weights(theta, phi, scale=self.scale)
        weights = weights.squeeze(2 if self.scope == "spacetime" else 3)  # b heads q and the keys in scope

        key_size = [size // window for size, window in zip(x.shape[2:], self.key_pool or [1] * self.ndim, strict=True)]
        if self.scope == "spacetime":
            return weights.unflatten(3, key_size)
        maps = weights.new_zeros(*weights.shape[:3], *key_size)
        for i in range(len(index)):
            if self.scope == "space":
                maps[:, :, i, group[i]] = weights[:, :, i].unflatten(2, key_size[1:])
            else:
                maps[:, :, i].flatten(3)[..., group[i]] = weights[:, :, i]
        return maps

    def _rows(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values as (b' heads n d), where b' is the number of clips times groups per clip.

        The groups are groups of positions, formed by `_group`.

        For concatenation, queries and keys have d = 1: they are a_i and b_j in w_f^T [theta_i, phi_j] = a_i + b_j.
        """
        check_input(x, self.channels, self.ndim, type(self).__name__)
        keys = x if self.pool_after_projection else self._pool(x)
        if self.w_f is not None:
            of_theta, of_phi = self.w_f.chunk(2, dim=1)
            theta, phi = self._through(self.theta, of_theta, x), self._through(self.phi, of_phi, keys)
        else:
            theta = x if self.theta is None else self.theta(x)
            phi = self._pool_after(keys if self.phi is None else self.phi(keys))
        g = self._pool_after(self.g(keys))
        rows = [_group(part, self.scope).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (theta, phi, g)]
        return rows[0], rows[1], rows[2]

    def _pool(self, x: Tensor) -> Tensor:
        if self.key_pool is None:
            return x
        if any(size < window for size, window in zip(x.shape[2:], self.key_pool, strict=True)):
            raise ValueError(
                f"the non-local block's input is {tuple(x.shape[2:])}, which is smaller than the key_pool "
                f"{self.key_pool}. Give a larger clip, insert the block earlier, or set key_pool to None "
                "(null in YAML)."
            )
        return MAX_POOL[self.ndim](x, self.key_pool)

    def _pool_after(self, projected: Tensor) -> Tensor:
        return self._pool(projected) if self.pool_after_projection else projected

    def _through(self, conv: Any, w: Float[Tensor, "heads d"], x: Tensor) -> Float[Tensor, "b heads *n"]:
        """Project x by a convolution, and return the weighted sum of each head's channels, w^T (W x + b).

        W and b are the rows of the convolution's weight and bias for one head, and w is the row of `w` for that head.
        The sum is computed as (W^T w)^T x + w^T b, with at most one multiply-add per input channel and head at each
        position. W x + b is computed in full and then summed with the weights w in two cases: for keys that are pooled
        after the projection, since the maximum lies between W and w; and if the convolution was replaced, for example
        by an adapter, or has hooks.
        """
        if self.pool_after_projection and conv is not self.theta:
            return pointwise(self._pool(conv(x)), w, groups=self.heads)
        if type(conv) not in POINTWISE_CONV.values() or not has_plain_call(conv):
            return pointwise(conv(x), w, groups=self.heads)
        weight = (conv.weight.flatten(1).unflatten(0, (self.heads, -1)) * w.unsqueeze(-1)).sum(1)
        bias = None if conv.bias is None else (conv.bias.view_as(w) * w).sum(1)
        return pointwise(x, weight, bias, groups=conv.groups)

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, pairwise={self.pairwise}, key_pool={self.key_pool}, scale={self.scale:.4g}, "
            f"scope={self.scope}, heads={self.heads}"
        )


class NonLocalBlock1d(_NonLocalBlock):
    __doc__ = (_NonLocalBlock.__doc__ or "").format(axes="b c n", paper_pool="")
    ndim = 1


class NonLocalBlock2d(_NonLocalBlock):
    __doc__ = (_NonLocalBlock.__doc__ or "").format(axes="b c h w", paper_pool="")
    ndim = 2


class NonLocalBlock3d(_NonLocalBlock):
    __doc__ = (_NonLocalBlock.__doc__ or "").format(axes="b c t h w", paper_pool=": (1, 2, 2), as in section 3.3")
    ndim = 3


def _key_pool(key_pool: Sequence[int] | str | None, scope: str, ndim: int) -> tuple[int, ...] | None:
    """Check `key_pool`, and return the size of its window along each axis; None for no pooling."""
    if key_pool == "paper":
        key_pool = {1: (2,), 2: (2, 2), 3: (1, 2, 2)}[ndim] if scope != "time" else None
    if key_pool is None:
        return None
    if isinstance(key_pool, str | int) or len(key_pool) != ndim or min(key_pool) < 1:
        raise ValueError(f"key_pool is {key_pool!r}; give {ndim} positive window sizes, 'paper' or None.")
    t, *space = key_pool
    if (scope == "time" and max(space) > 1) or (scope == "space" and t > 1):
        raise ValueError(
            f"key_pool {tuple(key_pool)} pools positions that do not attend to each other with scope {scope!r}. "
            "Give windows (1, h, w) for scope 'space' and (t, 1, 1) for scope 'time'."
        )
    return None if max(key_pool) == 1 else tuple(key_pool)


def _group(x: Float[Tensor, "b c *positions"], scope: str) -> Float[Tensor, "b2 n c"]:
    """Return one row per position, in groups of rows that attend to each other.

    By scope, a group has the positions of a clip ("spacetime"), of a frame ("space"), or at one (h, w) in all frames
    of a clip ("time").
    """
    if scope == "spacetime":
        return to_rows(x)
    rows = x.movedim(1, -1).flatten(2, 3)  # b t hw c
    return (rows if scope == "space" else rows.transpose(1, 2)).flatten(0, 1)


def _ungroup(rows: Float[Tensor, "b2 n c"], size: Sequence[int], scope: str) -> Float[Tensor, "b n2 c"]:
    """Invert `_group`: return the rows of each clip.

    Args:
        rows: one row per position, in b2 groups of n rows.
        size: size of a clip's features along t, h and w.
        scope: scope that `_group` was called with.
    """
    if scope == "spacetime":
        return rows
    groups = size[0] if scope == "space" else size[1] * size[2]
    rows = rows.unflatten(0, (-1, groups))
    return (rows if scope == "space" else rows.transpose(1, 2)).flatten(1, 2)


def _place(index: Int[Tensor, " q"], size: Sequence[int], scope: str) -> tuple[Int[Tensor, " q"], Int[Tensor, " q"]]:
    """Return where `_group` puts positions: the number of each position's group in its clip, and its row in the group.

    Args:
        index: positions, as indices into the features flattened over (t, h, w).
        size: size of a clip's features along t, h and w.
        scope: scope that `_group` is called with.
    """
    if scope == "spacetime":
        return torch.zeros_like(index), index
    t, place = index // (size[1] * size[2]), index % (size[1] * size[2])
    return (t, place) if scope == "space" else (place, t)
