"""Resolve a device's name."""

from __future__ import annotations

import torch

from farfield.errors import FarfieldError


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" for a GPU where there is one.

    Raises:
        FarfieldError: for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FarfieldError(f"device is {name!r}: {str(error).splitlines()[0]} Choose auto, cpu or cuda.") from error
    return device
