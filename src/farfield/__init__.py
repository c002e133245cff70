"""farfield: video action recognition that sees the whole clip at once.

The public names load on first use, so that `from farfield.layers import ...` brings in torch alone.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farfield.build import build_model
    from farfield.checkpoints.checkpoint import save_model
    from farfield.clip_spec import ClipSpec
    from farfield.errors import FarfieldError
    from farfield.inference.predict import predict
    from farfield.scoring.load import load_model

__version__ = version("farfield")
__all__ = ["ClipSpec", "FarfieldError", "build_model", "load_model", "predict", "save_model"]

_HOME = {
    "ClipSpec": "farfield.clip_spec",
    "FarfieldError": "farfield.errors",
    "build_model": "farfield.build",
    "load_model": "farfield.scoring.load",
    "predict": "farfield.inference.predict",
    "save_model": "farfield.checkpoints.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'farfield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
