"""Copy a module without the values of its parameters and buffers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def meta_copy(module: M, replaced: Mapping[nn.Module, nn.Module] | None = None) -> M:
    """Copy a module to the meta device. The copy has no values of parameters and buffers, and computes only shapes.

    Args:
        module: module to copy, left unchanged.
        replaced: maps a submodule to the module that takes its place in the copy. The submodule itself is not copied.
    """
    replaced = replaced or {}
    memo: dict[int, Any] = {id(each): new for each, new in replaced.items()}
    for each in module.modules():
        if each in replaced:
            continue
        for tensor in chain(each.parameters(recurse=False), each.buffers(recurse=False)):
            if id(tensor) not in memo:
                shape = torch.empty_like(tensor, device="meta")
                is_parameter = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if is_parameter else shape
        for value in vars(each).values():
            if type(value) is OrderedDict and not value:  # a dozen empty tables of hooks, most of deepcopy's time
                memo[id(value)] = OrderedDict()
    return copy.deepcopy(module, memo)
