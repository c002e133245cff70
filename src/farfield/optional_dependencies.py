"""Imports of optional dependencies, with an error that names the extra to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farfield.errors import FarfieldError

RUNTIMES = {
    "onnxruntime": "export",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "nncf": "openvino",
}
"""For each package that writes or runs exported files, the extra of farfield that installs it."""


@contextmanager
def require_packages(*packages: str) -> Iterator[None]:
    """Turn an `ImportError` of these packages into an error that names the extra to install.

    Raises:
        FarfieldError: if a package is not installed.
    """
    try:
        yield
    except ImportError as error:
        missing = next((name for name in packages if name in str(error)), packages[0])
        raise FarfieldError(
            f'the package {missing} is needed, but is not installed: pip install "farfield[{RUNTIMES[missing]}]"'
        ) from error
