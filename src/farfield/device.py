"""Resolve device names."""

from __future__ import annotations

import torch

from farfield.errors import FarfieldError


def find_device(name: str) -> torch.device:
    """Resolve a device name; "auto" is the GPU if there is one, otherwise the CPU.

    Raises:
        FarfieldError: if the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FarfieldError(
            f"device is {name!r}, which cannot be used ({str(error).splitlines()[0]}). Choose auto, cpu or cuda."
        ) from error
    return device
