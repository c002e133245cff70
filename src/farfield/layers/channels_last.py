"""Convert a module's weights to channels_last_3d, the memory format of decoded clips."""

from __future__ import annotations

from itertools import chain
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def to_channels_last_3d(module: M) -> M:
    """Convert the weights of 3D convolutions to channels_last_3d, in place, and return the module.

    `nn.Module.to(memory_format=torch.channels_last_3d)` fails for networks that also have 2D convolutions.
    """
    for tensor in chain(module.parameters(), module.buffers()):
        if tensor.ndim == 5:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last_3d)
    return module
