"""PyTorch's private names that the layers use, because they have no public equivalent.

tests/layers/test_torch_private.py fails if PyTorch no longer has one of them, and names it.
"""

from __future__ import annotations

from torch import nn

BatchNormBase = nn.modules.batchnorm._BatchNorm
"""Base class of BatchNorm1d to 3d and SyncBatchNorm."""

ConvBase = nn.modules.conv._ConvNd
"""Base class of Conv1d to 3d."""


def has_forward_hooks(module: nn.Module) -> bool:
    """Check whether a module has forward hooks. PyTorch has no public function that lists them."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def is_compiled(module: nn.Module) -> bool:
    """Check whether `module.compile()` was called. PyTorch has no public function that tells."""
    return module._compiled_call_impl is not None


def child_slots(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the dict of a module's children by name. Setting an item replaces the child in the module.

    Unlike `named_children()`, the dict lists a child that has two names under both.
    """
    return module._modules


def resolved_padding(conv: ConvBase) -> list[int]:
    """Return a convolution's padding for `F.pad`, last axis first, with "same" resolved to numbers."""
    return list(conv._reversed_padding_repeated_twice)
