"""Copy a module without the values of its parameters and buffers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def meta_copy(module: M) -> M:
    """Copy a module to the meta device. The copy has no values of parameters and buffers, and computes only shapes."""
    memo: dict[int, Any] = {}
    for tensor in chain(module.parameters(), module.buffers()):
        shape = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shape
    for each in module.modules():
        for value in vars(each).values():
            if type(value) is OrderedDict and not value:  # a dozen empty tables of hooks, most of deepcopy's time
                memo[id(value)] = OrderedDict()
    return copy.deepcopy(module, memo)
