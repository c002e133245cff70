"""Mean and variance per channel of many batches, from those of each."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Moments:
    """Gathers, in float64, the values per channel n_k, mean m_k and biased variance v_k of batches k.

    mean = sum n_k m_k / M and var = sum n_k (v_k + (m_k - mean)^2) / M with M = sum n_k are those of all values
    together.
    """

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []

    def add(self, count: int, mean: Float[Tensor, " c"], biased_var: Float[Tensor, " c"]) -> None:
        """One batch of `count` values per channel."""
        self.counts.append(count)
        # Copies: what is given may be a norm's own buffer, which the next batch overwrites.
        self.means.append(mean.to(torch.float64, copy=True))
        self.variances.append(biased_var.to(torch.float64, copy=True))

    @property
    def total(self) -> int:
        """M, the values per channel so far."""
        return sum(self.counts)

    def mean_and_var(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Mean and *biased* variance of all values."""
        means, variances = torch.stack(self.means), torch.stack(self.variances)
        weights = torch.tensor(self.counts, dtype=torch.float64, device=means.device).unsqueeze(1) / self.total
        mean = (weights * means).sum(0)
        return mean, (weights * (variances + (means - mean) ** 2)).sum(0)
