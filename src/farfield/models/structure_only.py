"""Build the structure of a network without allocating or drawing weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from farfield.layers.compiler_import import without_compiler

_DRAWING = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
"""Functions that fill a tensor with random values. Other functions of `nn.init` call them."""


@contextmanager
def structure_only() -> Iterator[None]:
    """Create modules on the meta device in the `with` block, without drawing random weights."""
    with torch.device("meta"), _DrawNothing(), without_compiler():
        yield


class _DrawNothing(TorchFunctionMode):
    """Skip functions that fill a tensor of the meta device with random values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWING:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
