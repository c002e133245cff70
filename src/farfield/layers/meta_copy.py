"""Copy a module without its values."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def meta_copy(module: M) -> M:
    """Copy a module with its parameters and buffers on the meta device, so that it computes shapes and no values."""
    memo: dict[int, Tensor] = {}
    for tensor in chain(module.parameters(), module.buffers()):
        shape = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shape
    return copy.deepcopy(module, memo)
