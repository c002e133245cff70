"""Import optional dependencies, and name the extra that installs a missing one."""

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
"""The packages that write and run exported files, and the extra of farfield's that brings each."""


@contextmanager
def require_packages(*packages: str) -> Iterator[None]:
    """Says which extra is missing where an import fails.

    Raises:
        FarfieldError: in place of the import's error.
    """
    try:
        yield
    except ImportError as error:
        missing = next((name for name in packages if name in str(error)), packages[0])
        raise FarfieldError(
            f'this needs the package {missing}, which is not installed: pip install "farfield[{RUNTIMES[missing]}]"'
        ) from error
