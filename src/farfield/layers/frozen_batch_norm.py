"""Frozen batch normalisation, for fine-tuning on small batches, whose statistics are noisy.

    y = (x - running_mean) / sqrt(running_var + eps) * gamma + beta

The statistics, gamma and beta are all fixed, so the layer is a fixed scale and shift per channel.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.layers.batch_norm import correct_gradient
from farfield.layers.replace_modules import replace_modules
from farfield.layers.sub_batch_norm import SubBatchNorm3d, join_batch_norm
from farfield.layers.torch_private import BatchNormBase


class FrozenBatchNorm3d(nn.Module):
    """Batch norm whose statistics, gamma and beta are buffers, fixed in training and evaluation.

    It is not a subclass of PyTorch's batch norm, because the sync-BN conversion would turn a subclass back into a
    trained norm. It loads the state dict of a batch norm.

    Args:
        num_features: channels c.
        eps: added to the variance.

    Raises:
        ValueError: if an input does not have num_features channels.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"FrozenBatchNorm3d needs c = {self.num_features} channels; given {tuple(x.shape)}.")
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps)
        return correct_gradient(y, x)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


def freeze_batch_norm(network: nn.Module) -> nn.Module:
    """Replace every batch norm in `network` by a frozen batch norm with the same state, in place.

    Returns:
        `network`, or its replacement if it is a batch norm itself.

    Raises:
        ValueError: if a batch norm has no running statistics: there is nothing to freeze.
    """
    return replace_modules(network, _frozen)


def _frozen(module: nn.Module) -> nn.Module | None:
    module = join_batch_norm(module) if isinstance(module, SubBatchNorm3d) else module
    if not isinstance(module, BatchNormBase):
        return None
    if module.running_mean is None or module.running_var is None:
        raise ValueError(
            "a batch norm without running statistics can't be frozen. Build the network with track_running_stats=True."
        )
    frozen = FrozenBatchNorm3d(module.num_features, module.eps)
    frozen.to(device=module.running_mean.device, dtype=module.running_mean.dtype)
    frozen.load_state_dict({**frozen.state_dict(), **module.state_dict()})
    return frozen
