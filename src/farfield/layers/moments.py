"""Combine the per-channel means and variances of several batches."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Moments:
    """Combined mean and variance, in float64, of batches k with n_k values per channel, mean m_k and variance v_k.

    mean = sum n_k m_k / M and var = sum n_k (v_k + (m_k - mean)^2) / M with M = sum n_k.
    """

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []

    def add(self, count: int, mean: Float[Tensor, " c"], biased_var: Float[Tensor, " c"]) -> None:
        """Add a batch of `count` values per channel."""
        self.counts.append(count)
        # Copies, since the arguments may be a norm's buffers, which the next batch overwrites.
        self.means.append(mean.to(torch.float64, copy=True))
        self.variances.append(biased_var.to(torch.float64, copy=True))

    @property
    def total(self) -> int:
        """Number of values per channel so far, M."""
        return sum(self.counts)

    def mean_and_var(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Return mean and *biased* variance of all values."""
        means, variances = torch.stack(self.means), torch.stack(self.variances)
        weights = torch.tensor(self.counts, dtype=torch.float64, device=means.device).unsqueeze(1) / self.total
        mean = (weights * means).sum(0)
        return mean, (weights * (variances + (means - mean) ** 2)).sum(0)
