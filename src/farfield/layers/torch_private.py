"""PyTorch's private names that the layers use, because they have no public equivalent.

tests/layers/test_torch_private.py fails by name if one of them is gone.
"""

from __future__ import annotations

from torch import nn

BatchNormBase = nn.modules.batchnorm._BatchNorm
"""Base class of BatchNorm1d to 3d and SyncBatchNorm, for what they have in common."""

ConvBase = nn.modules.conv._ConvNd
"""Base class of Conv1d to 3d, for what they have in common."""


def has_forward_hooks(module: nn.Module) -> bool:
    """Check for forward hooks: they can be added and removed publicly, but not listed."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def child_slots(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the children by name, to be changed in place. `named_children()` skips a child's second name."""
    return module._modules


def resolved_padding(conv: ConvBase) -> list[int]:
    """Return a convolution's padding for `F.pad`, last axis first, with "same" resolved to numbers."""
    return list(conv._reversed_padding_repeated_twice)
