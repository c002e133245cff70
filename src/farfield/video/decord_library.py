"""Import decord without loading CUDA's libraries. All other modules import decord from here.

On import, decord2 3.4 finds the package `nvidia` (`importlib.util.find_spec`) and loads every CUDA library in
that package, with global symbols. This takes 0.4 GB of memory per process. If PyTorch is imported later, one of the
libraries, NVBLAS, intercepts PyTorch's BLAS calls, and PyTorch crashes. Decoding on the CPU needs none of these
libraries, but decord has no option not to load them.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def import_decord() -> Any:
    """Import decord while the package `nvidia` is hidden from it."""
    before = {"nvidia": sys.modules["nvidia"]} if "nvidia" in sys.modules else {}
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # makes `find_spec` report that there is no such package
    try:
        return importlib.import_module("decord")
    finally:
        del sys.modules["nvidia"]
        sys.modules.update(before)


def warn_of_two_decords() -> None:
    """Warn if both `decord` and `decord2` are installed."""
    found = []
    for name in ("decord", "decord2"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if len(found) == 2:
        warnings.warn(
            f"{' and '.join(found)} are both installed. They share one package folder, so the imported code is a "
            "mix of both. Fix it with: pip uninstall -y decord decord2 && pip install decord2",
            RuntimeWarning,
            stacklevel=2,
        )


decord = import_decord()
warn_of_two_decords()
decord.logging.set_level(decord.logging.FATAL)  # errors come as exceptions; FFmpeg's own log is noise
