"""Trace each network once for all tests that export it: most of an export's time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from farfield.exporters import export_file

_translations = cache(ONNXRegistry.from_torchlib)
"""PyTorch's own table of operators in ONNX, which each export makes anew from their source, in 0.4 s."""


@contextmanager
def exported_once() -> Iterator[None]:
    """Keep the graph and the ONNX model of each network in a `with` block, for later exports of the same object."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("trace", "onnx_model"):
            made: Callable[..., Any] = cache(getattr(export_file, name))
            patch.setattr(export_file, name, made)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(_translations))
        yield
