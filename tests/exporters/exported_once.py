"""Trace each network once for all tests that export it: most of an export's time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from farfield.exporters import export_file


@contextmanager
def exported_once() -> Iterator[None]:
    """Keep the graph and the ONNX model of each network in a `with` block, for later exports of the same object."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("trace", "onnx_model"):
            made: Callable[..., Any] = cache(getattr(export_file, name))
            patch.setattr(export_file, name, made)
        yield
