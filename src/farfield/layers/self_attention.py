"""Self-attention for vision.

Zhang, Goodfellow, Metaxas, Odena, "Self-Attention Generative Adversarial Networks", ICML 2019, section 3. The input x
has C channels and n positions. 1x1x1 convolutions compute queries and keys of C/8 channels, and values of C channels:

    beta_ij = softmax_j s(query_i, key_j)        how much position i attends to position j (eq. 1)
    o_i     = sum_j beta_ij value_j              eq. 2
    y_i     = gamma o_i + x_i                    eq. 3; gamma is learned from 0

In the paper's eq. 2 the values have C/8 channels and are projected back to C. Here, as in DANet, a single projection to
C channels replaces these two projections.

The similarity s is one of

    dot product     q^T k                        as in the paper
    concatenation   ReLU(w^T [q, k])             without the ReLU the query's part would cancel in the softmax, and
                                                 all positions would have the same weights
    perceptron      w^T tanh(q + k)              additive attention: Bahdanau, Cho, Bengio, ICLR 2015, appendix A.1.2,
                                                 where q and k are the two projections inside the tanh

The dot product needs O(n) memory, since `pairwise.embedded_gaussian` uses a fused or tiled kernel for large n. For the
concatenation, the exact result takes O(n log n + n C) operations: w^T [q_i, k_j] is a_i + b_j, where a_i depends on the
query only and b_j on the key only. So exp(ReLU(a_i + b_j)) is exp(a_i) exp(b_j) for keys with b_j > -a_i, and 1 for the
other keys. Prefix sums over the sorted keys give the sums over both groups of keys. The perceptron cannot be separated
like this: it needs n^2 C/8 values of tanh, computed in slices of bounded memory.
"""

from __future__ import annotations

from typing import Literal, get_args, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from farfield.layers.pairwise import Above, embedded_gaussian, embedded_gaussian_weights
from farfield.layers.pointwise import POINTWISE_CONV, project, suited_format
from farfield.layers.positions import (
    at_least_float32,
    check_input,
    check_sizes,
    flat_index,
    from_rows,
    like_memory,
    to_rows,
)

Similarity = Literal["dot_product", "concatenation", "perceptron"]

SLICE = 2**24
"""Maximum number of values of tanh(q + k) in memory at a time: 64 MiB in float32. A single query may need more."""


class SelfAttention(nn.Module):
    """Self-attention: y = x + gamma o(x), where o averages values with attention weights.

    gamma is learned from 0, so the block starts as the identity.

    Args:
        channels: number of channels C of the input and the output.
        similarity: how the similarity of a query and a key is computed: "dot_product", "concatenation" or "perceptron".
            The attention weights are the softmax of the similarities.
        reduction: factor that reduces the channels of queries and keys. They have C / reduction channels, rounded
            down, but at least one.
        ndim: number of position axes, 3 for b c t h w or 2 for b c h w.

    Raises:
        ValueError: if similarity is unknown, channels or reduction is below 1, ndim is neither 2 nor 3, or the input
            has the wrong axes or channels.
    """

    def __init__(
        self, channels: int, *, similarity: Similarity = "dot_product", reduction: int = 8, ndim: int = 3
    ) -> None:
        super().__init__()
        check_sizes(channels, reduction, ndim)
        if similarity not in get_args(Similarity):
            raise ValueError(f"similarity is {similarity!r}; choose among {', '.join(get_args(Similarity))}.")
        conv = POINTWISE_CONV[ndim]
        inner = max(1, channels // reduction)
        self.channels, self.ndim, self.similarity = channels, ndim, similarity
        self.query = conv(channels, inner)
        self.key = conv(channels, inner)
        self.value = conv(channels, channels)
        width = {"dot_product": 0, "concatenation": 2 * inner, "perceptron": inner}[similarity]
        self.w = nn.Parameter(torch.randn(width) * inner**-0.5) if width else None
        self.gamma = nn.Parameter(torch.zeros(1))
        self.zero_at_init = ("gamma",)

    @overload
    def forward(
        self, x: Float[Tensor, "b c *positions"], *, return_attention: Literal[False] = False
    ) -> Float[Tensor, "b c *positions"]: ...

    @overload
    def forward(
        self, x: Float[Tensor, "b c *positions"], *, return_attention: Literal[True]
    ) -> tuple[Float[Tensor, "b c *positions"], Float[Tensor, "b n n"]]: ...

    def forward(
        self, x: Float[Tensor, "b c *positions"], *, return_attention: bool = False
    ) -> Float[Tensor, "b c *positions"] | tuple[Float[Tensor, "b c *positions"], Float[Tensor, "b n n"]]:
        """Compute y; with return_attention, also return the attention weights of all n queries over all n positions.

        If n x n weights are too many, call `attention` for the queries of interest.
        """
        check_input(x, self.channels, self.ndim, "SelfAttention")
        layout = suited_format(x, self.channels)
        convs = self.query, self.key, self.value
        query, key, value = (to_rows(project(conv, x, memory_format=layout)) for conv in convs)
        if return_attention:
            weights = self._weights(query, key)
            o = weights @ value
        elif self.w is None:
            o = embedded_gaussian(query, key, value)
        elif self.similarity == "concatenation":
            o = softmax_concatenation(*self._halves(query, key), value)
        else:
            o = perceptron(query, key, value, self.w)
        y = x + self.gamma * like_memory(from_rows(o, x.shape[2:]), x)
        return (y, weights) if return_attention else y

    def attention(
        self, x: Float[Tensor, "b c *positions"], queries: Int[Tensor, "q axes"]
    ) -> Float[Tensor, "b heads q *positions"]:
        """Return attention maps: for each query, the attention weights over all positions, which sum to 1.

        The heads axis has length 1.

        Args:
            x: input.
            queries: indices (t, h, w), or (h, w) if ndim is 2, of each query's position.

        Raises:
            ValueError: if `queries` is not an integer tensor of shape (q, ndim), or a position is outside of x.
        """
        check_input(x, self.channels, self.ndim, "SelfAttention")
        query, key = to_rows(self.query(x)), to_rows(self.key(x))
        return self._weights(query[:, flat_index(queries, x.shape[2:])], key).unflatten(2, x.shape[2:]).unsqueeze(1)

    def _weights(self, query: Float[Tensor, "b q d"], key: Float[Tensor, "b n d"]) -> Float[Tensor, "b q n"]:
        if self.w is None:
            return embedded_gaussian_weights(query, key)
        if self.similarity == "concatenation":
            a, b = self._halves(query, key)
            return (a.unsqueeze(2) + b.unsqueeze(1)).relu().softmax(-1)
        size = max(1, SLICE // (key.numel() or 1))
        return torch.cat([perceptron_weights(some, key, self.w) for some in query.split(size, dim=1)], 1)

    def _halves(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Split the similarity w^T [query_i, key_j] into a_i + b_j, and return (a, b).

        a has shape (batch n) and depends on the queries only. b has shape (batch m) and depends on the keys only.
        """
        assert self.w is not None
        of_query, of_key = self.w.chunk(2)
        return (query * of_query).sum(-1), (key * of_key).sum(-1)


def softmax_concatenation(
    a: Float[Tensor, "b n"], b: Float[Tensor, "b m"], value: Float[Tensor, "b m e"]
) -> Float[Tensor, "b n e"]:
    """Compute sum_j softmax_j(ReLU(a_i + b_j)) value_j exactly, in O(n log n + n e) operations.

    Args:
        a: the queries' part of the similarity.
        b: the keys' part of the similarity.
        value: values that are averaged with the softmax as weights.
    """
    dtype = value.dtype
    a, b, value = (at_least_float32(part) for part in (a, b, value))
    a, b = a.unsqueeze(-1), b.unsqueeze(-1)
    above = Above(a.squeeze(-1), b.squeeze(-1))
    rows = torch.cat([value, torch.ones_like(b)], -1)  # the last column sums the weights
    # Divide both parts by exp(largest affinity of i) = exp(max(0, a_i + b_max)), so that nothing overflows.
    b_max = b.detach().amax(1, keepdim=True)
    largest = (a.detach() + b_max).relu()
    over = torch.exp(a + b_max - largest) * above.sum(torch.exp(b - b_max) * rows)
    under = torch.exp(-largest) * (rows.sum(1, keepdim=True) - above.sum(rows))
    total = torch.where(above.count().unsqueeze(-1) > 0, over, 0) + under
    return (total[..., :-1] / total[..., -1:]).to(dtype)


def perceptron_weights(
    query: Float[Tensor, "b q d"], key: Float[Tensor, "b m d"], w: Float[Tensor, " d"]
) -> Float[Tensor, "b q m"]:
    """Compute softmax_j(w^T tanh(query_i + key_j)) in O(q m d) memory."""
    return (torch.tanh(query.unsqueeze(2) + key.unsqueeze(1)) @ w.to(query.dtype)).softmax(-1)


def perceptron(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b m d"], value: Float[Tensor, "b m e"], w: Float[Tensor, " d"]
) -> Float[Tensor, "b n e"]:
    """Compute sum_j softmax_j(w^T tanh(query_i + key_j)) value_j in slices of queries.

    Each slice is recomputed in the backward pass, so that memory stays bounded.
    """

    def respond(some: Tensor) -> Tensor:
        return perceptron_weights(some, key, w) @ value

    size = max(1, SLICE // (key.numel() or 1))
    if query.shape[1] <= size:
        return respond(query)
    slices = query.split(size, dim=1)
    return torch.cat([checkpoint(respond, some, use_reentrant=False) for some in slices], dim=1)
